/**
 * Sessions: commands that somebody runs in the enclave beside its services, and copies of files. They are part of the
 * protocol between gateway and supervisor (wire/supervisor-frames.ts).
 *
 *   exec.create | archive.create   -> SessionTicket: the session's number, a token and the streams it wants
 *   exec.start                     -> ExecStatus; the gateway has opened every stream before
 *   exec.wait                      -> SessionStatus, when it has ended or the wait is over
 *   exec.signal, exec.resize       -> {}
 *
 * A stream is a connection of the gateway to the supervisor's stream socket. It begins with STREAM_HELLO_BYTES: the
 * token (32 hexadecimal digits) and the number of the descriptor that it becomes in the session's process (0, 1 or 2)
 * as one digit. The supervisor answers one byte, STREAM_ACCEPTED, and the gateway sends nothing until exec.start has
 * been answered: what follows belongs to the process, and no byte of it passes through the supervisor. Anything else
 * closes the connection.
 */
import type { ExecRequest, ExecStatus } from "./control.ts";
import type { Refuse, StrictObject } from "./strict-object.ts";

export const STREAM_HELLO_BYTES = 33;
export const STREAM_ACCEPTED = 0x2b;
/** Sessions at one time. */
export const MAX_SESSIONS = 32;

export interface ArchiveRequest {
  /** `pack`: out of the enclave; `unpack`: into it. */
  readonly direction: "pack" | "unpack";
  /** Absolute. */
  readonly path: string;
}

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export interface SessionTicket {
  readonly id: number;
  readonly token: string;
  /** Descriptors for which the gateway has to open a stream: [0] with a terminal, else [0, 1, 2], [0] or [1]. */
  readonly streams: readonly (0 | 1 | 2)[];
}

export interface SessionStatus extends ExecStatus {
  /** What the program of an archive session printed at its end, at most 4096 characters; "" for commands. */
  readonly report: string;
}

const ID = { minimum: 1, maximum: 0xff_ff_ff_ff };
const SIZE = { minimum: 1, maximum: 10_000 };
const MAX_WORDS = 1024;
const MAX_WORD = 128 * 1024;
export const EXEC_KEYS = ["command", "service", "user", "environment", "workingDir", "tty"];

export function readExecRequest(object: StrictObject, refuse: Refuse): ExecRequest {
  const command = object.texts("command", MAX_WORDS, { maximum: MAX_WORD });
  if (command.length === 0) throw refuse(`${object.place("command")}: must name a program`);
  return {
    command,
    ...(object.has("service") ? { service: object.text("service", { maximum: 64 }) } : {}),
    ...(object.has("user") ? { user: object.text("user", { maximum: 64 }) } : {}),
    ...(object.has("environment") ? { environment: readVariables(object, refuse) } : {}),
    ...(object.has("workingDir") ? { workingDir: object.text("workingDir", { pattern: /^\// }) } : {}),
    ...(object.has("tty") ? { tty: object.boolean("tty") } : {}),
  };
}

function readVariables(object: StrictObject, refuse: Refuse): Record<string, string> {
  const value = object.raw("environment");
  const place = object.place("environment");
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw refuse(`${place}: must be an object`);
  }
  const entries: [string, unknown][] = Object.entries(value);
  if (entries.length > MAX_WORDS) throw refuse(`${place}: has more than ${MAX_WORDS} variables`);
  return Object.fromEntries(entries.map((entry) => readVariable(entry, place, refuse)));
}

function readVariable([name, value]: [string, unknown], place: string, refuse: Refuse): [string, string] {
  const isName = name !== "" && name.length <= 256 && !/[=\0]/.test(name);
  if (!isName) throw refuse(`${place}: ${JSON.stringify(name.slice(0, 64))} is no name of a variable`);
  const isValue = typeof value === "string" && value.length <= MAX_WORD && !value.includes("\0");
  if (!isValue) throw refuse(`${place}.${name}: must be a string without NUL characters`);
  return [name, value];
}

export function readArchiveRequest(object: StrictObject): ArchiveRequest {
  return {
    direction: object.word("direction", ["pack", "unpack"]),
    path: object.text("path", { pattern: /^\// }),
  };
}

export function readSessionId(object: StrictObject): number {
  return object.integer("id", ID);
}

export function readTerminalSize(object: StrictObject): { readonly id: number } & TerminalSize {
  return {
    id: readSessionId(object),
    rows: object.integer("rows", SIZE),
    columns: object.integer("columns", SIZE),
  };
}
