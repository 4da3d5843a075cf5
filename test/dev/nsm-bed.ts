import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openDevelopmentProvider } from "../../attest/nsm/development-provider.ts";
import type { NsmProvider } from "../../attest/nsm/nsm-provider.ts";
import { type DevelopmentAuthority, openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { DevelopmentNsm, type DevelopmentNsmOptions } from "../../dev/development-nsm.ts";
import { type NsmServerOptions, serveDevelopmentNsm } from "../../dev/nsm-server.ts";

export const MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef";
export const MEASUREMENTS: ReadonlyMap<number, Uint8Array> = new Map(
  [0, 1, 2, 4].map((index) => [index, new Uint8Array(48).fill(index + 1)]),
);

/** An authority in a folder of its own, and development NSMs below it on a Unix socket. */
export class DevelopmentBed implements AsyncDisposable {
  readonly authority: DevelopmentAuthority;
  readonly directory: string;
  readonly #stack: AsyncDisposableStack;
  #served = 0;

  private constructor(directory: string, authority: DevelopmentAuthority, stack: AsyncDisposableStack) {
    this.directory = directory;
    this.authority = authority;
    this.#stack = stack;
  }

  static async open(nowMs: () => number = Date.now): Promise<DevelopmentBed> {
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "nsm-bed-"));
    stack.defer(async () => await rm(directory, { recursive: true, force: true }));
    const authority = await openDevelopmentAuthority({ directory: join(directory, "authority"), nowMs });
    return new DevelopmentBed(directory, authority, stack.move());
  }

  createNsm(options: Partial<DevelopmentNsmOptions> = {}): DevelopmentNsm {
    const usual = { authority: this.authority, measurements: MEASUREMENTS, moduleId: MODULE_ID };
    return new DevelopmentNsm({ ...usual, nowMs: Date.now, form: "definite", ...options });
  }

  /** Takes each connection on a socket of its own. @returns its path */
  async listen(onConnection: (socket: Socket) => void): Promise<string> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      onConnection(socket);
    });
    this.#served += 1;
    const path = join(this.directory, `${this.#served}.sock`);
    server.listen(path);
    await once(server, "listening");
    this.#stack.defer(async () => await close(server, sockets));
    return path;
  }

  async serve(nsm: DevelopmentNsm, options: Partial<NsmServerOptions> = {}): Promise<string> {
    const usual = { nsm: async () => nsm, signal: new AbortController().signal };
    return await this.listen(serveDevelopmentNsm({ ...usual, ...options }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export function openProviderOf(path: string, timeoutMs?: number): NsmProvider {
  const dial = async (signal: AbortSignal): Promise<Socket> => await dialUnix(path, signal);
  return openDevelopmentProvider(timeoutMs === undefined ? { dial } : { dial, timeoutMs });
}

export async function dialUnix(path: string, signal = new AbortController().signal): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.on("error", () => undefined);
  await once(socket, "connect", { signal });
  return socket;
}

async function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  const closed = once(server, "close");
  server.close();
  await closed;
}
