/** Sessions as a client sees them that speaks HTTP by hand: every byte and every moment is the test's own choice. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";

import { ExecFrameDecoder } from "../../control/exec-frames.ts";
import type { ExecRequest, ExecStatus } from "../../wire/control.ts";
import { eventually } from "./eventually.ts";
import { isAlive } from "./running-group.ts";
import type { RunningSupervisor } from "./running-supervisor.ts";

export function sh(script: string, rest: Partial<ExecRequest> = {}): ExecRequest {
  return { command: ["/bin/sh", "-c", script], ...rest };
}

/** Of the control socket; errors are the close that follows them. */
export function open(enclave: RunningSupervisor): Socket {
  const socket = connect({ path: enclave.socketPath(9001), allowHalfOpen: true });
  socket.on("error", () => undefined);
  return socket;
}

export async function postJson(
  enclave: RunningSupervisor,
  path: string,
  body: unknown,
  method = "POST",
): Promise<{ readonly status: number; readonly body: unknown }> {
  const socket = open(enclave);
  const json = typeof body === "string" ? body : JSON.stringify(body);
  const head = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(json)}\r\nconnection: close`;
  socket.write(`${method} ${path} HTTP/1.1\r\nhost: x\r\n${head}\r\n\r\n${json}`);
  return parseAnswer(await text(socket));
}

export function parseAnswer(answer: string): { readonly status: number; readonly body: unknown } {
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
  const body = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  return { status, body: body === "" ? undefined : (JSON.parse(body) as unknown) };
}

export async function create(enclave: RunningSupervisor, request: ExecRequest): Promise<number> {
  const { status, body } = await postJson(enclave, "/v1/exec", request);
  if (status !== 201) throw new Error(`not created: ${JSON.stringify(body)}`);
  return (body as ExecStatus).id;
}

/** The head of the request that makes the connection a stream. */
export function startHead(id: number | string, body = "{}", protocol = "enclave-stream"): string {
  const head = `connection: Upgrade\r\nupgrade: ${protocol}\r\ncontent-length: ${Buffer.byteLength(body)}`;
  return `POST /v1/exec/${id}/start HTTP/1.1\r\nhost: x\r\n${head}\r\n\r\n${body}`;
}

/** A connection that became the stream of a session; what came is kept by stream. */
export class RawSession {
  readonly id: number;
  readonly socket: Socket;
  readonly #enclave: RunningSupervisor;
  #head = "";
  #failure: Error | undefined;
  stdout = "";
  stderr = "";
  raw = "";
  ended = false;

  constructor(enclave: RunningSupervisor, id: number, socket: Socket) {
    this.#enclave = enclave;
    this.id = id;
    this.socket = socket;
  }

  /** Makes the session, upgrades the connection and sends `behind` in the same write. */
  static async start(
    enclave: RunningSupervisor,
    request: ExecRequest,
    behind = "",
    size: object = {},
  ): Promise<RawSession> {
    const session = new RawSession(enclave, await create(enclave, request), open(enclave));
    session.#receive(request.tty === true);
    session.socket.write(startHead(session.id, JSON.stringify(size)) + behind);
    await eventually("an answer", () => session.#head !== "" || session.ended);
    if (!session.#head.startsWith("HTTP/1.1 101 ")) throw new Error(`refused: ${session.#head}`);
    return session;
  }

  #receive(isTerminal: boolean): void {
    const decoder = new ExecFrameDecoder();
    let early = Buffer.alloc(0);
    const take = (chunk: Buffer): void => {
      this.raw += chunk.toString("latin1");
      if (isTerminal) return;
      for (const { stream, bytes } of decoder.push(chunk)) {
        this[stream] += Buffer.from(bytes).toString("latin1");
      }
    };
    const { socket } = this;
    socket.on("data", (chunk: Buffer) => {
      try {
        if (this.#head !== "") return take(chunk);
        early = Buffer.concat([early, chunk]);
        const end = early.indexOf("\r\n\r\n");
        if (end === -1) return;
        this.#head = early.toString("latin1", 0, end);
        if (this.#head.startsWith("HTTP/1.1 101 ")) take(early.subarray(end + 4));
        else this.#head = early.toString("latin1");
      } catch (error) {
        this.#failure = new Error("no frames", { cause: error });
        socket.destroy();
      }
    });
    socket.once("end", () => (this.ended = true)).once("close", () => (this.ended = true));
  }

  /** The output until the enclave ends it; then how the command ended. */
  async finish(): Promise<ExecStatus & { readonly stdout: string; readonly stderr: string }> {
    if (!this.socket.closed && !this.ended) await once(this.socket, "end");
    this.socket.destroy();
    if (this.#failure !== undefined) throw this.#failure;
    const status = await this.status("?wait=true");
    return { ...status, stdout: this.stdout, stderr: this.stderr };
  }

  async status(query = ""): Promise<ExecStatus> {
    const { text: json } = await this.#enclave.request("GET", `/v1/exec/${this.id}${query}`);
    return JSON.parse(json) as ExecStatus;
  }

  /** The first line of the output as a number. */
  async pid(): Promise<number> {
    await eventually("a first line", () => /^\d+\r?\n/.test(this.stdout) || /^\d+\r?\n/.test(this.raw));
    return Number.parseInt(/^\d+\r?\n/.test(this.stdout) ? this.stdout : this.raw, 10);
  }
}

export async function untilGone(pid: number): Promise<void> {
  await eventually(`the end of process ${pid}`, async () => !(await isAlive(pid)));
}

/** Resident memory of gateway and supervisor, in MiB. */
export async function residentMib(
  enclave: RunningSupervisor,
): Promise<{ gateway: number; supervisor: number }> {
  const { supervisor, gateway } = await enclave.status();
  const mib = async (pid: number): Promise<number> => {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  };
  return { gateway: await mib(gateway.pid ?? 0), supervisor: await mib(supervisor.pid) };
}
