/**
 * Protocol between gateway (client, less trusted) and supervisor (server) over a socket pair.
 *
 *   frame     u32 big-endian length of what follows (1 to MAX_FRAME_BYTES), then UTF-8 JSON
 *   request   {id, method, params}
 *   answer    {id, result}  or  {id, error: {code, message, hint, details}}
 *
 * The gateway pulls: the supervisor sends nothing that was not asked for, so what it must keep is bounded by its rings
 * and by MAX_REQUESTS. Reads of events and logs wait up to `waitMs` for something new; `cancel` ends such a wait.
 */
import { errorToJson, KitError } from "../core/errors.ts";
import { isErrorCode } from "../core/error-table.ts";
import type { ExecRequest, ReloadOverrides } from "./control.ts";
import { decodeEgressConfig, type EgressConfig } from "./egress-policy.ts";
import {
  type ArchiveRequest,
  EXEC_KEYS,
  readArchiveRequest,
  readExecRequest,
  readSessionId,
  readTerminalSize,
  type TerminalSize,
} from "./session-frames.ts";
import { StrictObject } from "./strict-object.ts";

export const MAX_FRAME_BYTES = 1024 * 1024;
/** Requests in progress at one time. */
export const MAX_REQUESTS = 128;
/** Longest wait of one read, in ms. */
export const MAX_WAIT_MS = 30_000;
/** Most bytes of log lines in one answer: even as JSON escapes they fit a frame. */
export const MAX_READ_BYTES = 96 * 1024;
/** Most entries in one answer. */
export const MAX_READ_ENTRIES = 1000;

const HEADER_BYTES = 4;
const COUNT = { minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
const REQUEST_ID = { minimum: 1, maximum: 0xff_ff_ff_ff };

export interface EventsRead {
  /** Only entries with a greater seq. */
  readonly after: number;
  readonly waitMs: number;
}

export interface LogsRead extends EventsRead {
  /** Absent: all services, without the gateway's own output. */
  readonly services?: readonly string[];
  readonly limitBytes: number;
  /** Only the last so many entries of what is there now; `after` is still respected. */
  readonly tail?: number;
}

export type SupervisorCall =
  | { readonly method: "hello" | "listening" | "alive" | "status" | "stats" | "poweroff" }
  /** Services and rules as wire/enclave-config.ts has them; absent: the image's own. */
  | { readonly method: "reload"; readonly params: ReloadOverrides }
  | { readonly method: "exec.create"; readonly params: ExecRequest }
  | { readonly method: "archive.create"; readonly params: ArchiveRequest }
  | { readonly method: "exec.start"; readonly params: { readonly id: number } & TerminalSize }
  | { readonly method: "exec.resize"; readonly params: { readonly id: number } & TerminalSize }
  | { readonly method: "exec.signal"; readonly params: { readonly id: number; readonly signal: string } }
  /** Answers when the session has ended, or after `waitMs`. */
  | { readonly method: "exec.wait"; readonly params: { readonly id: number; readonly waitMs: number } }
  | { readonly method: "events.read"; readonly params: EventsRead }
  | { readonly method: "logs.read"; readonly params: LogsRead }
  | {
      readonly method: "service.start" | "service.stop" | "service.restart";
      readonly params: { readonly name: string };
    }
  | { readonly method: "cancel"; readonly params: { readonly id: number } };

export type SupervisorRequest = { readonly id: number } & SupervisorCall;

/** Sockets that the supervisor lends to the gateway (enclave/held-sockets.ts), in the order of their descriptors. */
export const HELD_SOCKETS = ["egress4", "egress6", "dnsTcp4", "dnsTcp6", "dnsUdp4", "dnsUdp6"] as const;
export type HeldSocket = (typeof HELD_SOCKETS)[number];

/** Result of `hello`: all that the gateway knows of the configuration. */
export interface GatewaySettings {
  /** False in production: the control API is not opened. */
  readonly control: boolean;
  readonly ingressPorts: readonly number[];
  readonly egress: EgressConfig;
  /** Where the gateway keeps the addresses that names have (pf-proxy/names). */
  readonly namesJournal: string;
  /** Those that are there. */
  readonly heldSockets: readonly HeldSocket[];
  /** Socket to which session streams connect (wire/session-frames.ts). */
  readonly streamSocket: string;
  /** Where the control API also listens inside the enclave, for initctl. */
  readonly controlSocket: string;
}

/** Result of `events.read` and `logs.read`. */
export interface ReadPage<Entry> {
  readonly entries: readonly Entry[];
  /** `after` of the next read. */
  readonly next: number;
  /** Entries between `after` and `next` that were overwritten; at most, where only some services are read. */
  readonly dropped: number;
  /** The greatest seq given out so far: who wants only what is there now stops when `next` reaches it. */
  readonly last: number;
  /** Nothing will ever follow: the services have ended and everything was read. */
  readonly final: boolean;
}

export type SupervisorAnswer =
  { readonly id: number; readonly result: unknown } | { readonly id: number; readonly error: KitError };

/** @throws E_ENCLAVE_FRAME if `value` is too large. */
export function encodeFrame(value: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(value), "utf8");
  if (body.length > MAX_FRAME_BYTES) throw refuse(`frame: ${body.length} bytes are too many to send`);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32BE(body.length);
  body.copy(frame, HEADER_BYTES);
  return frame;
}

export function encodeErrorAnswer(id: number, error: KitError): Buffer {
  return encodeFrame({ id, error: errorToJson(error) });
}

/** Cuts a byte stream into frames; holds at most one frame, however small the pieces are. */
export class FrameDecoder {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #body: Buffer | undefined;
  /** Bytes present of the header, or of the body once there is one. */
  #filledBytes = 0;

  /** The JSON values that `chunk` completed. @throws E_ENCLAVE_FRAME; the stream is then of no further use. */
  push(chunk: Uint8Array): unknown[] {
    const values: unknown[] = [];
    for (let at = 0; at < chunk.length;) {
      const target = this.#body ?? this.#header;
      const piece = chunk.subarray(at, at + target.length - this.#filledBytes);
      target.set(piece, this.#filledBytes);
      this.#filledBytes += piece.length;
      at += piece.length;
      if (this.#filledBytes < target.length) break;
      this.#filledBytes = 0;
      if (this.#body !== undefined) values.push(parseBody(this.#body));
      this.#body = this.#body === undefined ? Buffer.alloc(this.#bodyBytes()) : undefined;
    }
    return values;
  }

  #bodyBytes(): number {
    const length = this.#header.readUInt32BE();
    if (length === 0 || length > MAX_FRAME_BYTES) throw refuse(`frame: length ${length} is out of bounds`);
    return length;
  }
}

function parseBody(body: Uint8Array): unknown {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    return value;
  } catch (error) {
    throw new KitError("E_ENCLAVE_FRAME", "frame: the body is not JSON in UTF-8", { cause: error });
  }
}

/** @throws E_ENCLAVE_FRAME */
export function decodeRequest(value: unknown): SupervisorRequest {
  const object = new StrictObject(value, "request", ["id", "method", "params"], refuse);
  const id = object.integer("id", REQUEST_ID);
  const read = READERS[object.word("method", METHODS)];
  return { id, ...read(object) };
}

type Method = SupervisorCall["method"];
type Reader = (request: StrictObject) => SupervisorCall;

const READERS: Readonly<Record<Method, Reader>> = {
  hello: readNothing("hello"),
  listening: readNothing("listening"),
  alive: readNothing("alive"),
  status: readNothing("status"),
  stats: readNothing("stats"),
  poweroff: readNothing("poweroff"),
  reload: readReload,
  "events.read": (request) => ({
    method: "events.read",
    params: readEventsRead(request.object("params", ["after", "waitMs"])),
  }),
  "logs.read": (request) => ({
    method: "logs.read",
    params: readLogsRead(request.object("params", LOGS_READ_KEYS)),
  }),
  cancel: (request) => ({
    method: "cancel",
    params: { id: request.object("params", ["id"]).integer("id", REQUEST_ID) },
  }),
  "service.start": readServiceCall("service.start"),
  "service.stop": readServiceCall("service.stop"),
  "service.restart": readServiceCall("service.restart"),
  "exec.create": (request) => ({
    method: "exec.create",
    params: readExecRequest(request.object("params", EXEC_KEYS), refuse),
  }),
  "archive.create": (request) => ({
    method: "archive.create",
    params: readArchiveRequest(request.object("params", ["direction", "path"])),
  }),
  "exec.start": readSized("exec.start"),
  "exec.resize": readSized("exec.resize"),
  "exec.signal": readSignal,
  "exec.wait": readWait,
};
const METHODS = Object.keys(READERS).filter((name): name is Method => Object.hasOwn(READERS, name));

function readNothing(method: "hello" | "listening" | "alive" | "status" | "stats" | "poweroff"): Reader {
  return (request) => {
    request.object("params", []);
    return { method };
  };
}

function readServiceCall(method: "service.start" | "service.stop" | "service.restart"): Reader {
  return (request) => ({
    method,
    params: { name: request.object("params", ["name"]).text("name", SERVICE_NAME) },
  });
}

function readSized(method: "exec.start" | "exec.resize"): Reader {
  return (request) => ({
    method,
    params: readTerminalSize(request.object("params", ["id", "rows", "columns"])),
  });
}

function readReload(request: StrictObject): SupervisorCall {
  const params = request.object("params", ["services", "egress"]);
  return {
    method: "reload",
    params: {
      ...(params.has("services") ? { services: params.list("services", MAX_SERVICES, (item) => item) } : {}),
      ...(params.has("egress") ? { egress: params.raw("egress") } : {}),
    },
  };
}

function readSignal(request: StrictObject): SupervisorCall {
  const params = request.object("params", ["id", "signal"]);
  const signal = params.text("signal", { pattern: /^SIG[A-Z0-9]{1,12}$/ });
  return { method: "exec.signal", params: { id: readSessionId(params), signal } };
}

function readWait(request: StrictObject): SupervisorCall {
  const params = request.object("params", ["id", "waitMs"]);
  const waitMs = params.integer("waitMs", { minimum: 0, maximum: MAX_WAIT_MS });
  return { method: "exec.wait", params: { id: readSessionId(params), waitMs } };
}

const SETTINGS_KEYS = [
  "control",
  "ingressPorts",
  "egress",
  "namesJournal",
  "heldSockets",
  "streamSocket",
  "controlSocket",
];
const LOGS_READ_KEYS = ["after", "waitMs", "services", "limitBytes", "tail"];
const SERVICE_NAME = { maximum: 64 };
const MAX_SERVICES = 256;

function readEventsRead(object: StrictObject): EventsRead {
  return {
    after: object.integer("after", COUNT),
    waitMs: object.integer("waitMs", { minimum: 0, maximum: MAX_WAIT_MS }),
  };
}

function readLogsRead(object: StrictObject): LogsRead {
  return {
    ...readEventsRead(object),
    limitBytes: object.integer("limitBytes", { minimum: 1, maximum: MAX_READ_BYTES }),
    ...(object.has("services") ? { services: object.texts("services", 256, SERVICE_NAME) } : {}),
    ...(object.has("tail") ? { tail: object.integer("tail", { minimum: 0, maximum: 1_000_000 }) } : {}),
  };
}

/** @throws E_ENCLAVE_FRAME */
export function decodeAnswer(value: unknown): SupervisorAnswer {
  const object = new StrictObject(value, "answer", ["id", "result", "error"], refuse);
  const id = object.integer("id", REQUEST_ID);
  if (object.has("result") === object.has("error")) throw refuse("answer: needs either result or error");
  if (object.has("result")) return { id, result: object.raw("result") };
  const error = object.object("error", ["code", "message", "hint", "details"]);
  const code = error.text("code", { maximum: 64 });
  if (!isErrorCode(code)) throw refuse(`answer.error.code: ${JSON.stringify(code)} is unknown`);
  const message = error.text("message", { maximum: MAX_FRAME_BYTES });
  return { id, error: new KitError(code, message, { hint: error.text("hint") }) };
}

/** @throws E_ENCLAVE_FRAME */
export function decodeGatewaySettings(value: unknown): GatewaySettings {
  const object = new StrictObject(value, "settings", SETTINGS_KEYS, refuse);
  const port = { minimum: 1, maximum: 65_535 };
  const path = { pattern: /^\//, maximum: 107 };
  return {
    control: object.boolean("control"),
    ingressPorts: object.integers("ingressPorts", 1024, port),
    egress: decodeEgressConfig(object.raw("egress"), "settings.egress", refuse),
    namesJournal: object.text("namesJournal", path),
    heldSockets: object.list("heldSockets", HELD_SOCKETS.length, readHeldSocket),
    streamSocket: object.text("streamSocket", path),
    controlSocket: object.text("controlSocket", path),
  };
}

function readHeldSocket(value: unknown, place: string): HeldSocket {
  const found = HELD_SOCKETS.find((name) => name === value);
  if (found !== undefined) return found;
  throw refuse(`${place}: is no socket of egress`);
}

/** Entries stay unparsed: the gateway only passes them on. @throws E_ENCLAVE_FRAME */
export function decodeReadPage(value: unknown): ReadPage<unknown> {
  const object = new StrictObject(value, "page", ["entries", "next", "dropped", "last", "final"], refuse);
  return {
    entries: object.list("entries", MAX_READ_ENTRIES, (item) => item),
    next: object.integer("next", COUNT),
    dropped: object.integer("dropped", COUNT),
    last: object.integer("last", COUNT),
    final: object.boolean("final"),
  };
}

function refuse(message: string): KitError {
  return new KitError("E_ENCLAVE_FRAME", message);
}
