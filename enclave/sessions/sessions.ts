/** All sessions of the enclave: made, given their streams, started, waited for, and ended with those who asked for them. */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { constants } from "node:os";

import { KitError } from "../../core/errors.ts";
import type { ExecRequest } from "../../wire/control.ts";
import type { ServiceConfig } from "../../wire/enclave-config.ts";
import {
  type ArchiveRequest,
  MAX_SESSIONS,
  type SessionStatus,
  type SessionTicket,
  type TerminalSize,
} from "../../wire/session-frames.ts";
import type { Clock } from "../clock.ts";
import type { EventStore } from "../event-store.ts";
import { type AccountFiles, lookUpUser } from "./account-lookup.ts";
import { archiveCommand, type CommandParts, execCommand } from "./session-command.ts";
import {
  type SessionCommand,
  type SessionEnd,
  type SessionProcess,
  startSessionProcess,
} from "./session-process.ts";
import { isSameToken, openStreamListener } from "./stream-listener.ts";

export interface SessionsOptions extends CommandParts {
  /** Where the gateway connects streams. */
  readonly streamSocket: string;
  readonly streamOwner?: { readonly uid: number; readonly gid: number } | undefined;
  /** Node with the bundle that copies. */
  readonly archiveProgram: readonly string[];
  readonly accounts: AccountFiles;
  readonly clock: Clock;
  readonly events: EventStore;
  readonly findService: (name: string) => ServiceConfig | undefined;
  /** Options of service-exec for what runs as the service. */
  readonly optionsOf: (service: string) => readonly string[];
}

interface Session {
  readonly id: number;
  readonly token: string;
  readonly wanted: readonly (0 | 1 | 2)[];
  /** For events: the name of the program, and never its arguments. */
  readonly label: string;
  readonly streams: Map<number, Socket>;
  /** Copies clean up after SIGTERM; a hang-up would leave half of one. */
  readonly hangUpSignal: "SIGHUP" | "SIGTERM";
  readonly ended: PromiseWithResolvers<SessionEnd>;
  /** Forgotten when it was started: what it was given may be large. */
  command: SessionCommand | undefined;
  process: SessionProcess | undefined;
  end: SessionEnd | undefined;
}

/** A session that nobody starts, or whose end nobody asks for, is forgotten after this. */
const UNSTARTED_MS = 10_000;
const KEEP_ENDED_MS = 60_000;
/** Of more that have ended the oldest are forgotten at once. */
const MAX_ENDED = 256;
/** From SIGHUP to SIGKILL. */
const HANGUP_GRACE_MS = 5_000;

export class Sessions implements AsyncDisposable {
  readonly #options: SessionsOptions;
  readonly #sessions = new Map<number, Session>();
  #listener: AsyncDisposable | undefined;
  #lastId = 0;

  private constructor(options: SessionsOptions) {
    this.#options = options;
  }

  static async open(options: SessionsOptions): Promise<Sessions> {
    const sessions = new Sessions(options);
    sessions.#listener = await openStreamListener({
      path: options.streamSocket,
      owner: options.streamOwner,
      onStream: (token, descriptor, socket) => sessions.#takeStream(token, descriptor, socket),
    });
    return sessions;
  }

  /** @throws E_SERVICE_UNKNOWN, E_EXEC_USER, E_CONTROL_BUSY */
  async createExec(request: ExecRequest): Promise<SessionTicket> {
    const { accounts, findService, optionsOf } = this.#options;
    const service = request.service === undefined ? undefined : findService(request.service);
    if (request.service !== undefined && service === undefined) {
      throw new KitError(
        "E_SERVICE_UNKNOWN",
        `no service ${JSON.stringify(request.service)} in this enclave`,
      );
    }
    const user = request.user === undefined ? undefined : await lookUpUser(request.user, accounts);
    if (user !== undefined && user.uid !== 0 && !this.#options.setIdentity) {
      throw new KitError("E_EXEC_USER", `there is one user id here, so nothing can run as ${user.name}`);
    }
    const options = service === undefined ? [] : optionsOf(service.name);
    const command = execCommand(request, { service, options, user }, this.#options);
    const label = `exec ${request.command[0] ?? ""}`.slice(0, 80);
    return this.#add(command, label, command.tty ? [0] : [0, 1, 2]);
  }

  /** @throws E_CONTROL_BUSY */
  createArchive(request: ArchiveRequest): SessionTicket {
    const command = archiveCommand(request, this.#options.archiveProgram, this.#options);
    return this.#add(command, `copy (${request.direction})`, [request.direction === "pack" ? 1 : 0]);
  }

  /** @throws E_EXEC_UNKNOWN, E_EXEC_STATE */
  start(id: number, size: TerminalSize): SessionStatus {
    const session = this.#find(id);
    const { command } = session;
    const isComplete = session.wanted.every((descriptor) => session.streams.has(descriptor));
    if (command === undefined || !isComplete) {
      const why = command === undefined ? "it was started before" : "its streams are not there";
      throw new KitError("E_EXEC_STATE", `session ${id} cannot be started: ${why}`);
    }
    const { events } = this.#options;
    const process = startSessionProcess(command, session.streams);
    session.process = process;
    session.command = undefined;
    session.streams.clear();
    process.resize(size);
    events.add(null, `${session.label}: started (session ${id})`);
    void this.#awaitEnd(session, process);
    return describe(session);
  }

  async #awaitEnd(session: Session, process: SessionProcess): Promise<void> {
    const { events, clock } = this.#options;
    const end = await process.ended;
    session.end = end;
    session.ended.resolve(end);
    events.add(null, `${session.label}: ${end.reason} (session ${session.id})`);
    clock.after(KEEP_ENDED_MS, () => this.#sessions.delete(session.id));
    const ended = [...this.#sessions.values()].filter((one) => one.end !== undefined);
    for (const { id } of ended.slice(0, -MAX_ENDED)) this.#sessions.delete(id);
  }

  /** Until the session has ended, the time is over or the signal aborts. @throws E_EXEC_UNKNOWN */
  async wait(id: number, waitMs: number, signal: AbortSignal): Promise<SessionStatus> {
    const session = this.#find(id);
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(waitMs, resolve);
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
    await Promise.race([session.ended.promise, over]);
    cancel();
    return describe(session);
  }

  /** @throws E_EXEC_UNKNOWN, E_CONTROL_REQUEST */
  signal(id: number, name: string): void {
    const session = this.#find(id);
    if (!isSignal(name)) throw new KitError("E_CONTROL_REQUEST", `${name} is no signal`);
    if (session.end === undefined) session.process?.kill(name);
  }

  /** @throws E_EXEC_UNKNOWN */
  resize(id: number, size: TerminalSize): void {
    this.#find(id).process?.resize(size);
  }

  /** Those who asked are gone: hangs up on everything that runs, and kills what stays. */
  hangUp(): void {
    for (const session of this.#sessions.values()) {
      for (const socket of session.streams.values()) socket.destroy();
      if (session.process === undefined) this.#sessions.delete(session.id);
      else if (session.end === undefined) this.#hangUpOn(session.process, session.hangUpSignal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.hangUp();
    for (const { process, end } of this.#sessions.values()) if (end === undefined) process?.kill("SIGKILL");
    await this.#listener?.[Symbol.asyncDispose]();
  }

  #hangUpOn(process: SessionProcess, signal: NodeJS.Signals): void {
    process.kill(signal);
    const cancel = this.#options.clock.after(HANGUP_GRACE_MS, () => process.kill("SIGKILL"));
    void process.ended.then(cancel);
  }

  #add(command: SessionCommand, label: string, wanted: readonly (0 | 1 | 2)[]): SessionTicket {
    const live = [...this.#sessions.values()].filter((session) => session.end === undefined);
    if (live.length >= MAX_SESSIONS) {
      throw new KitError("E_CONTROL_BUSY", `${MAX_SESSIONS} sessions are in progress`);
    }
    this.#lastId = (this.#lastId % 0xff_ff_ff_ff) + 1;
    const id = this.#lastId;
    const token = randomBytes(16).toString("hex");
    const ended = Promise.withResolvers<SessionEnd>();
    const hangUpSignal = command.reports ? "SIGTERM" : "SIGHUP";
    const made = {
      id,
      token,
      wanted,
      label,
      streams: new Map<number, Socket>(),
      hangUpSignal,
      ended,
    } as const;
    const session: Session = { ...made, command, process: undefined, end: undefined };
    this.#sessions.set(id, session);
    this.#options.clock.after(UNSTARTED_MS, () => this.#expire(session));
    return { id, token, streams: wanted };
  }

  #expire(session: Session): void {
    if (session.process !== undefined) return;
    for (const socket of session.streams.values()) socket.destroy();
    this.#sessions.delete(session.id);
  }

  #takeStream(token: string, descriptor: number, socket: Socket): boolean {
    const session = [...this.#sessions.values()].find((one) => isSameToken(one.token, token));
    const isWanted = session?.wanted.some((wanted) => wanted === descriptor) === true;
    if (!isWanted || session.process !== undefined || session.streams.has(descriptor)) return false;
    session.streams.set(descriptor, socket);
    socket.once("close", () => {
      if (session.streams.get(descriptor) === socket) session.streams.delete(descriptor);
    });
    return true;
  }

  #find(id: number): Session {
    const session = this.#sessions.get(id);
    if (session !== undefined) return session;
    throw new KitError("E_EXEC_UNKNOWN", `there is no session ${id}`);
  }
}

function describe({ id, process, end }: Session): SessionStatus {
  const state = end !== undefined ? "ended" : process === undefined ? "created" : "running";
  return {
    id,
    state,
    pid: state === "running" ? (process?.pid ?? null) : null,
    exitCode: end?.exitCode ?? null,
    reason: end?.reason ?? null,
    report: end?.report ?? "",
  };
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}
