/** A world with a stand-in nitro-cli of its own, and Unix sockets in place of AF_VSOCK. */
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { type DescribedEnclave, NitroCli } from "../../../host/backends/nitro/nitro-cli.ts";
import type { NitroDialer } from "../../../host/backends/nitro/nitro-ports.ts";

const STAND_IN = join(import.meta.dirname, "../../fixtures/host/nitro-cli/nitro-cli.mjs");

export interface Call {
  readonly pid: number;
  readonly phase: "begin" | "end";
  readonly words: readonly string[];
}

export interface NitroBed extends AsyncDisposable {
  readonly folder: string;
  /** Folder with the program nitro-cli. */
  readonly binFolder: string;
  readonly cli: NitroCli;
  readonly eifPath: string;
  readonly dialer: TestDialer;
  /** What goes wrong from now on, by command. */
  misbehave(behaviour: Readonly<Record<string, unknown>>): Promise<void>;
  setState(state: Readonly<Record<string, unknown>>): Promise<void>;
  enclaves(): Promise<readonly DescribedEnclave[]>;
  calls(): Promise<readonly Call[]>;
}

export async function openNitroBed(): Promise<NitroBed> {
  const folder = await mkdtemp(join(tmpdir(), "nitro-"));
  const binFolder = join(folder, "bin");
  await mkdir(binFolder);
  const program = join(binFolder, "nitro-cli");
  const script = `#!/bin/sh\nNITRO_STAND_IN='${folder}' exec '${process.execPath}' '${STAND_IN}' "$@"\n`;
  await writeFile(program, script);
  await chmod(program, 0o755);
  const eifPath = join(folder, "signer.eif");
  await writeFile(eifPath, Buffer.concat([Buffer.from(".eif"), Buffer.alloc(20 * 2 ** 20)]));
  const dialer = new TestDialer(join(folder, "v"));
  await mkdir(join(folder, "v"));
  const place = async (name: string, value: unknown): Promise<void> => {
    await writeFile(join(folder, `${name}.new`), JSON.stringify(value));
    await rename(join(folder, `${name}.new`), join(folder, name));
  };
  return {
    folder,
    binFolder,
    cli: new NitroCli({ program }),
    eifPath,
    dialer,
    misbehave: async (behaviour) => await place("behaviour.json", behaviour),
    setState: async (state) => await place("state.json", state),
    enclaves: async () => readEnclaves(join(folder, "state.json")),
    calls: async () => await readCalls(join(folder, "calls.jsonl")),
    [Symbol.asyncDispose]: async () => {
      await dialer[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function readEnclaves(path: string): Promise<readonly DescribedEnclave[]> {
  const text = await readFile(path, "utf8").catch(() => "{}");
  return (JSON.parse(text) as { enclaves?: DescribedEnclave[] }).enclaves ?? [];
}

async function readCalls(path: string): Promise<readonly Call[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Call);
}

/** Ports of the enclave are sockets `CID.PORT`, ports of the host `host.PORT`. */
export class TestDialer implements NitroDialer, AsyncDisposable {
  readonly #folder: string;
  readonly #servers = new Set<Server>();
  /** CIDs of those who connect to the host, in their order. */
  readonly #callers: (number | undefined)[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  async connect(cid: number, port: number, signal: AbortSignal): Promise<Socket> {
    signal.throwIfAborted();
    return await connected(join(this.#folder, `${cid}.${port}`), signal);
  }

  async listen(port: number, handler: (socket: Socket, cid?: number) => void): Promise<AsyncDisposable> {
    return await this.#serve(`host.${port}`, (socket) => handler(socket, this.#callers.shift()));
  }

  /** As the enclave. */
  async listenInside(cid: number, port: number, handler: (socket: Socket) => void): Promise<void> {
    await this.#serve(`${cid}.${port}`, handler);
  }

  /** As an enclave, or as one of which the host cannot tell which it is. */
  async arrive(cid: number | undefined, port: number): Promise<Socket> {
    this.#callers.push(cid);
    return await connected(join(this.#folder, `host.${port}`), AbortSignal.timeout(5_000));
  }

  async #serve(name: string, handler: (socket: Socket) => void): Promise<AsyncDisposable> {
    const server = createServer({ allowHalfOpen: true }, handler);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject).listen(join(this.#folder, name), resolve);
    await promise;
    this.#servers.add(server);
    return {
      [Symbol.asyncDispose]: async () => {
        server.close();
        await Promise.resolve();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.close();
    await Promise.resolve();
  }
}

async function connected(path: string, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("connect", resolve).once("error", reject);
  signal.addEventListener("abort", () => socket.destroy(new Error("aborted")), { once: true });
  await promise;
  socket.on("error", () => undefined);
  return socket;
}

export async function until<T>(
  what: string,
  look: () => Promise<T | undefined>,
  timeoutMs = 10_000,
): Promise<T> {
  const signal = AbortSignal.timeout(timeoutMs);
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (signal.aborted) throw new Error(`waited too long: ${what}`);
    await delay(20);
  }
}

export async function bytesOf(stream: AsyncIterable<unknown>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}
