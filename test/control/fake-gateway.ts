/**
 * A gateway for tests of its clients: a real HTTP server on a Unix socket that runs commands as processes of this
 * machine. Any route can be replaced, by an honest answer or by a hostile one.
 */
import { spawn } from "node:child_process";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import type { Readable } from "node:stream";
import { z } from "zod";

import { packArchive } from "../../archive/pack-archive.ts";
import { unpackArchive } from "../../archive/unpack-archive.ts";
import type { Dial } from "../../control/control-request.ts";
import { errorToJson, toKitError } from "../../core/errors.ts";
import type { EventEntry, ExecStatus, LogEntry, ServiceStatus } from "../../wire/control.ts";
import { ExecRequestSchema } from "../../wire/control-schemas.ts";
import { FIRST_REPORT } from "../../wire/attestation-server.ts";

type Route = (request: IncomingMessage, response: ServerResponse) => unknown;
type UpgradeRoute = (socket: Socket, request: IncomingMessage) => unknown;

export function serviceOf(name: string, change: Partial<ServiceStatus> = {}): ServiceStatus {
  return {
    name,
    state: "running",
    pid: 7,
    restarts: 0,
    health: "none",
    healthDetail: null,
    startedAt: 1_700_000_000_000,
    reason: null,
    user: { name, uid: 61_184 },
    notIsolated: null,
    limits: [],
    ...change,
  };
}

export function frameOf(stream: number, bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(stream);
  header.writeUInt32BE(bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

const USAGE = {
  cpuUsec: 1000,
  memoryBytes: 1024 ** 2,
  memoryLimitBytes: 2 * 1024 ** 2,
  pids: 2,
  pidsLimit: 64,
};

export class FakeGateway implements AsyncDisposable {
  readonly path: string;
  /** `METHOD /path` to what answers instead. */
  readonly routes = new Map<string, Route>();
  readonly upgrades = new Map<string, UpgradeRoute>();
  services: ServiceStatus[] = [serviceOf("web"), serviceOf("redis")];
  readonly logs: LogEntry[] = [];
  readonly events: EventEntry[] = [];
  /** `METHOD /path?query` of every request, in their order. */
  readonly seen: string[] = [];
  /** Bodies of requests with JSON, in their order. */
  readonly bodies: unknown[] = [];
  readonly sizes: unknown[] = [];
  readonly signals: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #sessions: Session[] = [];

  private constructor(path: string) {
    this.path = path;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined).once("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("upgrade", (request, socket: Socket) => void this.#upgrade(request, socket));
  }

  static async open(path: string): Promise<FakeGateway> {
    const gateway = new FakeGateway(path);
    await new Promise<void>((resolve) => gateway.#server.listen(path, resolve));
    return gateway;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  readonly dial: Dial = async (signal) => {
    signal.throwIfAborted();
    const socket = connect({ path: this.path, allowHalfOpen: true });
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return socket;
  };

  /** Ends the first session, which tells keys. */
  finishKeys(): void {
    this.#sessions[0]?.quit();
  }

  /** What somebody gets who attaches to `web`. */
  attachWith(stdout: string, stderr: string): void {
    this.upgrades.set("/v1/services/web/attach", (socket) => {
      accept(socket);
      socket.write(frameOf(1, Buffer.from(stdout)));
      socket.end(frameOf(2, Buffer.from(stderr)));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    for (const session of this.#sessions) session.kill("SIGKILL");
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "", "http://enclave");
    const key = `${request.method} ${url.pathname}`;
    this.seen.push(`${request.method} ${request.url}`);
    const route = this.routes.get(key);
    try {
      if (route !== undefined) await route(request, response);
      else await this.#answer(key, url, { request, response });
    } catch (error) {
      if (response.headersSent) response.destroy();
      else sendJson(response, statusOf(error), errorToJson(toKitError(error)));
    }
  }

  async #answer(
    key: string,
    url: URL,
    { request, response }: { readonly request: IncomingMessage; readonly response: ServerResponse },
  ): Promise<void> {
    const act = /^POST \/v1\/services\/([^/]+)\/(start|stop|restart)$/.exec(key);
    const session = /^(GET|POST) \/v1\/exec\/(\d+)(?:\/(resize|signal))?$/.exec(key);
    const service = /^GET \/v1\/services\/([^/]+)$/.exec(key);
    if (service !== null) return this.#sendService(response, decodeURIComponent(service[1] ?? ""));
    if (act !== null) return this.#act(response, act[1] ?? "", act[2] ?? "");
    if (session !== null) return await this.#session(session, request, response);
    const route = this.#standing(url, request).get(key);
    if (route === undefined)
      return sendJson(response, 404, { code: "E_CONTROL_NOT_FOUND", message: key, hint: "", details: {} });
    await route(response);
  }

  #standing(
    { searchParams }: URL,
    request: IncomingMessage,
  ): ReadonlyMap<string, (response: ServerResponse) => unknown> {
    const follow = searchParams.get("follow") === "true";
    const path = searchParams.get("path") ?? "";
    const signal = new AbortController().signal;
    return new Map<string, (response: ServerResponse) => unknown>([
      ["GET /v1/status", (response) => sendJson(response, 200, this.#status())],
      ["GET /v1/services", (response) => sendJson(response, 200, { services: this.services })],
      ["GET /v1/events", (response) => sendLines(response, this.events, follow)],
      ["GET /v1/logs", (response) => sendLines(response, this.#findLogs(searchParams), follow)],
      ["GET /v1/stats", (response) => this.#sendStats(response, searchParams.get("intervalMs"))],
      ["POST /v1/poweroff", (response) => sendJson(response, 202, {})],
      ["POST /v1/exec", (response) => this.#createExec(request, response)],
      [
        "POST /v1/reload",
        async (response) => {
          this.bodies.push(JSON.parse(await readBody(request)));
          sendJson(response, 200, { added: ["new"], removed: [], changed: [], unchanged: ["web"] });
        },
      ],
      [
        "GET /v1/archive",
        async (response) => {
          // The head goes out with the first byte, so that a refusal before it still has a status.
          response.setHeader("content-type", "application/x-tar");
          await packArchive(path, { output: response, signal });
          response.end();
        },
      ],
      [
        "PUT /v1/archive",
        async (response) => {
          const policy = { owners: "caller", specialModes: "keep" } as const;
          sendJson(response, 200, await unpackArchive(path, { input: request, signal, ...policy }));
        },
      ],
    ]);
  }

  #findLogs(query: URLSearchParams): readonly LogEntry[] {
    const wanted = query.getAll("service");
    const tail = Number(query.get("tail") ?? 1e9);
    const since = Number(query.get("since") ?? 0);
    const found = this.logs.filter(
      (one) => one.time >= since && (wanted.length === 0 || wanted.includes(one.service)),
    );
    return tail === 0 ? [] : found.slice(-tail);
  }

  #status() {
    return {
      name: "fake",
      mode: "development",
      attestation: "development",
      supervisor: { pid: 2, restarts: 0, previousExit: null },
      gateway: { pid: 3, restarts: 0 },
      attestationServer: { pid: 4, restarts: 0, ...FIRST_REPORT },
      isolated: true,
      stopping: false,
      overridden: false,
      services: this.services,
    };
  }

  #stats() {
    const services = this.services.map(({ name }) => ({ ...USAGE, name, outputBytes: 10 }));
    const none = { live: 0, total: 0, refused: 0, bytesOut: 0, bytesIn: 0 };
    return { time: Date.now(), machine: USAGE, services, network: { ingress: none, egress: none } };
  }

  #sendStats(response: ServerResponse, intervalMs: string | null): void {
    if (intervalMs === null) return sendJson(response, 200, this.#stats());
    const send = (): void => void response.write(`${JSON.stringify(this.#stats())}\n`);
    const timer = setInterval(send, Number(intervalMs));
    response.once("close", () => clearInterval(timer));
    send();
  }

  #sendService(response: ServerResponse, name: string): void {
    const service = this.services.find((one) => one.name === name);
    if (service !== undefined) return sendJson(response, 200, service);
    sendJson(response, 404, {
      code: "E_SERVICE_UNKNOWN",
      message: `no service ${name}`,
      hint: "",
      details: {},
    });
  }

  #act(response: ServerResponse, name: string, act: string): void {
    this.services = this.services.map((one) => {
      if (one.name !== name) return one;
      return act === "stop" ? { ...one, state: "stopped", pid: null } : { ...one, state: "running", pid: 8 };
    });
    sendJson(
      response,
      200,
      this.services.find((one) => one.name === name),
    );
  }

  async #createExec(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = ExecRequestSchema.parse(JSON.parse(await readBody(request)));
    this.bodies.push(body);
    const session = new Session(this.#sessions.length + 1, body.command, body.tty === true);
    this.#sessions.push(session);
    sendJson(response, 201, session.status);
  }

  async #session(
    [, , id, verb]: RegExpExecArray,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const session = this.#sessions[Number(id) - 1];
    if (session === undefined) return sendJson(response, 404, {});
    if (verb === undefined) {
      if (!session.isBroken) await session.ended;
      return sendJson(response, 200, session.status);
    }
    const body: unknown = JSON.parse(await readBody(request));
    if (verb === "resize") this.sizes.push(body);
    else {
      const { signal } = z.object({ signal: z.string() }).parse(body);
      this.signals.push(signal);
      session.kill(signal);
    }
    response.writeHead(204).end();
  }

  async #upgrade(request: IncomingMessage, socket: Socket): Promise<void> {
    this.seen.push(`${request.method} ${request.url}`);
    socket.on("error", () => socket.destroy());
    const route = this.upgrades.get(request.url ?? "");
    if (route !== undefined) return void route(socket, request);
    const id = Number(/^\/v1\/exec\/(\d+)\/start$/.exec(request.url ?? "")?.[1]);
    const session = this.#sessions[id - 1];
    if (session === undefined) {
      const body = JSON.stringify({ code: "E_SERVICE_UNKNOWN", message: "unknown", hint: "", details: {} });
      socket.end(`HTTP/1.1 404 Not Found\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
      return;
    }
    this.sizes.push(JSON.parse(await readBody(request)));
    accept(socket);
    session.run(socket);
  }
}

export function accept(socket: Socket): void {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: enclave-stream\r\n\r\n");
}

class Session {
  status: ExecStatus;
  /** Its connection has ended before it did. */
  isBroken = false;
  readonly ended: Promise<void>;
  readonly #command: readonly string[];
  readonly #isTerminal: boolean;
  readonly #end: () => void;
  #pid: number | undefined;
  #socket: Socket | undefined;

  constructor(id: number, command: readonly string[], isTerminal: boolean) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
    this.#command = command;
    this.#isTerminal = isTerminal;
    this.status = { id, state: "created", pid: null, exitCode: null, reason: null };
  }

  run(socket: Socket): void {
    if (this.#isTerminal) return this.#runKeys(socket);
    const [program = "", ...words] = this.#command;
    const child = spawn(program, words);
    this.#pid = child.pid;
    this.status = { ...this.status, state: "running", pid: child.pid ?? null };
    child.stdin.on("error", () => undefined);
    socket.pipe(child.stdin);
    const carry = async (output: Readable, stream: number): Promise<void> => {
      for await (const chunk of output)
        if (!socket.write(frameOf(stream, chunk)))
          await new Promise((resolve) => socket.once("drain", resolve));
    };
    const outputs = [carry(child.stdout, 1), carry(child.stderr, 2)];
    child.once("error", () => this.#finish(127, "not executed: ENOENT"));
    child.once("close", (code, signal) => {
      const number = signal === "SIGTERM" ? 143 : 137;
      this.#finish(code ?? number, code === null ? `crashed(${signal})` : `exited(${code})`);
      void Promise.allSettled(outputs).then(() => socket.end());
    });
  }

  kill(signal: string): void {
    if (this.#isTerminal) this.#finish(143, `crashed(${signal})`);
    if (this.#pid !== undefined && this.status.state === "running") process.kill(this.#pid, signal);
  }

  /** Tells every key; `q` ends it with status 5, `!` breaks its connection. */
  #runKeys(socket: Socket): void {
    socket.write("keys\r\n");
    this.status = { ...this.status, state: "running" };
    socket.on("data", (chunk: Buffer) => {
      for (const key of chunk) {
        socket.write(`<${key.toString(16)}>`);
        if (key === 0x21) {
          this.isBroken = true;
          socket.end();
        }
        if (key === 0x71) this.quit(socket);
      }
    });
    socket.once("end", () => socket.end());
    this.#socket = socket;
  }

  /** The end of a program that tells keys. */
  quit(socket = this.#socket): void {
    this.#finish(5, "exited(5)");
    socket?.end();
  }

  #finish(exitCode: number, reason: string): void {
    if (this.status.state === "ended") return;
    this.status = { ...this.status, state: "ended", exitCode, reason };
    this.#end();
  }
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function sendLines(response: ServerResponse, values: readonly unknown[], follow: boolean): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.write(values.map((value) => `${JSON.stringify(value)}\n`).join(""));
  if (!follow) response.end();
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
}

function statusOf(error: unknown): number {
  return toKitError(error).code === "E_ARCHIVE_NOT_FOUND" ? 404 : 500;
}
