/** A program on a terminal of service-exec, with the test as the client at the other end of descriptor 0. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { Writable } from "node:stream";

import { collect, type Exit, until, within, type Workshop } from "./sandbox.ts";

export interface TerminalOptions {
  /** Who it is, and more options of service-exec. */
  readonly options: readonly string[];
  readonly command: readonly string[];
  /** First size; none is sent unless given. */
  readonly size?: readonly [number, number];
}

/** Two ends of a Unix stream connection; `near` is for the child, not read by this process. */
async function connectPair(directory: string): Promise<{ near: Socket; far: Socket }> {
  const path = join(directory, `pair-${crypto.randomUUID().slice(0, 8)}`);
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true });
  server.listen(path);
  await once(server, "listening");
  const accepted = once(server, "connection");
  const far = connect({ path, allowHalfOpen: true });
  const [near]: Socket[] = await accepted;
  server.close();
  await rm(path, { force: true });
  if (near === undefined) throw new Error("nothing accepted");
  return { near, far };
}

export class TerminalSession implements AsyncDisposable {
  readonly relay: ChildProcess;
  readonly client: Socket;
  /** What came through descriptor 3, once it is closed. */
  readonly error: Promise<string>;
  readonly #ended: Promise<Exit>;
  readonly #closed: Promise<unknown>;
  #output = Buffer.alloc(0);

  private constructor(relay: ChildProcess, client: Socket) {
    this.relay = relay;
    this.client = client;
    this.error = collect(relay, 3);
    this.#ended = new Promise((resolve) => relay.once("exit", (code, signal) => resolve({ code, signal })));
    this.#closed = new Promise((resolve) => client.once("end", resolve));
    client.on("error", () => client.destroy());
    relay.stdio[4]?.on("error", () => undefined);
    client.on("data", (chunk: Buffer) => (this.#output = Buffer.concat([this.#output, chunk])));
  }

  static async open(
    workshop: Workshop,
    { options, command, size }: TerminalOptions,
  ): Promise<TerminalSession> {
    const { near, far } = await connectPair(workshop.directory);
    const relay = spawn(workshop.serviceExec, [...options, "--tty", "--", ...command], {
      stdio: [near, "ignore", "ignore", "pipe", "pipe"],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", TERM: "dumb", PS1: "prompt> " },
    });
    near.destroy();
    const session = new TerminalSession(relay, far);
    if (size !== undefined) session.resize(...size);
    return session;
  }

  get output(): Buffer {
    return this.#output;
  }

  get text(): string {
    return this.#output.toString("latin1").replaceAll("\r\n", "\n");
  }

  resize(rows: number, columns: number): void {
    const record = Buffer.alloc(4);
    record.writeUInt16BE(rows, 0);
    record.writeUInt16BE(columns, 2);
    this.sendSizes(record);
  }

  sendSizes(bytes: Uint8Array): void {
    const sizes = this.relay.stdio[4];
    if (!(sizes instanceof Writable)) throw new Error("no descriptor 4");
    sizes.write(bytes);
  }

  async shows(text: string): Promise<void> {
    await until(`the terminal shows ${JSON.stringify(text)}`, async () => this.text.includes(text));
  }

  /** pid of the program behind the relay. */
  programPid(): Promise<string> {
    return until("the program runs", async () => {
      const children = await childrenOf(this.relay.pid ?? 0);
      return children[0];
    });
  }

  /** How the relay ended. */
  ended(): Promise<Exit> {
    return within("the relay's end", this.#ended);
  }

  /** The end of the output. */
  closed(): Promise<unknown> {
    return within("the end of the output", this.#closed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.destroy();
    if (this.relay.exitCode === null && this.relay.signalCode === null) this.relay.kill("SIGKILL");
    await this.ended();
  }
}

async function childrenOf(pid: number): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text.split(" ").filter((word) => word !== "");
}
