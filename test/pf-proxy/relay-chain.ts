/** Client, relay, Unix socket, relay, service: the path of an ingress connection, with real sockets. */
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { relay, type RelayResult } from "../../pf-proxy/relay.ts";

export async function listen(
  server: Server,
  at: { port: number; host?: string } | { path: string },
): Promise<void> {
  server.listen(at);
  await once(server, "listening");
}

export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

export async function dial(target: { port: number } | { path: string }): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", allowHalfOpen: true, ...target });
  await once(socket, "connect");
  return socket;
}

export class RelayChain implements AsyncDisposable {
  readonly stop = new AbortController();
  readonly results: { readonly place: "host" | "enclave"; readonly result: RelayResult }[] = [];
  /** The four sockets of the two relays, in the order of their making. */
  readonly relaySockets: Socket[] = [];
  readonly #stack = new AsyncDisposableStack();
  readonly #tasks: Promise<void>[] = [];
  port = 0;

  /** @param serve gets the service's end of each connection. */
  static async open(serve: (socket: Socket) => void): Promise<RelayChain> {
    const chain = new RelayChain();
    const stack = chain.#stack;
    const directory = await mkdtemp(join(tmpdir(), "relay-"));
    stack.defer(() => rm(directory, { recursive: true }));
    const path = join(directory, "s");
    const service = createServer({ allowHalfOpen: true }, serve);
    const enclave = createServer({ allowHalfOpen: true }, (socket) =>
      chain.#join("enclave", socket, () => dial({ port: portOf(service) })),
    );
    const host = createServer({ allowHalfOpen: true }, (socket) =>
      chain.#join("host", socket, () => dial({ path })),
    );
    for (const [server, at] of [
      [service, { port: 0 }],
      [enclave, { path }],
      [host, { port: 0 }],
    ] as const) {
      await listen(server, at);
      stack.defer(() => new Promise<void>((resolve) => server.close(() => resolve())));
    }
    chain.port = portOf(host);
    return chain;
  }

  #join(place: "host" | "enclave", near: Socket, open: () => Promise<Socket>): void {
    near.on("error", () => undefined);
    const task = async (): Promise<void> => {
      const far = await open();
      this.relaySockets.push(near, far);
      this.results.push({ place, result: await relay(near, far, { signal: this.stop.signal }) });
    };
    this.#tasks.push(task());
  }

  async outcomes(): Promise<Record<string, string>> {
    await Promise.all(this.#tasks);
    return Object.fromEntries(this.results.map(({ place, result }) => [place, result.outcome]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await Promise.all(this.#tasks);
    await this.#stack.disposeAsync();
  }
}
