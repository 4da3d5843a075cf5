/** A client and a server end on real TCP, as the gateway has them. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

import { KitError } from "../../../core/errors.ts";
import { formatTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import type { ProxyRequest } from "../../../pf-proxy/proxies/proxy-request.ts";

export type ReadRequest = (stream: Socket, signal: AbortSignal) => Promise<ProxyRequest>;

export class ProxyBed implements AsyncDisposable {
  readonly client: Socket;
  readonly server: Socket;

  private constructor(client: Socket, server: Socket) {
    this.client = client;
    this.server = server;
  }

  static async open(): Promise<ProxyBed> {
    const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    const address = listener.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const accepted = once(listener, "connection");
    const client = connect({ port: address.port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const [server] = (await accepted) as [Socket];
    listener.close();
    for (const socket of [client, server]) socket.on("error", () => undefined);
    return new ProxyBed(client, server);
  }

  /** Everything that the client gets until the connection is over. */
  async readAnswer(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    this.client.on("data", (chunk: Buffer) => chunks.push(chunk));
    await once(this.client, "end");
    this.client.end();
    return Buffer.concat(chunks);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      [this.client, this.server].map(async (socket) => {
        if (socket.closed) return;
        socket.destroy();
        await once(socket, "close");
      }),
    );
  }
}

/** Sends, and tells the target, or the code of the refusal, with what the client was told. */
export async function ask(
  read: ReadRequest,
  bytes: Buffer,
): Promise<{ readonly outcome: string; readonly answer: Buffer }> {
  await using bed = await ProxyBed.open();
  bed.client.write(bytes);
  const answer = bed.readAnswer();
  const outcome = await read(bed.server, AbortSignal.timeout(20_000)).then(
    (request) => {
      request.refuse("no_rule");
      return formatTarget(request.target);
    },
    (error: unknown) => {
      if (!(error instanceof KitError)) throw error;
      return error.code;
    },
  );
  return { outcome, answer: await answer };
}

/** Accepts in `read`'s protocol and tells what followed the request. */
export async function readRest(read: ReadRequest, chunks: readonly Buffer[]): Promise<Buffer> {
  await using bed = await ProxyBed.open();
  for (const chunk of chunks) {
    bed.client.write(chunk);
    await new Promise((resolve) => setImmediate(resolve));
  }
  bed.client.end();
  const request = await read(bed.server, AbortSignal.timeout(20_000));
  request.accept();
  const rest: Buffer[] = [];
  bed.server.on("data", (chunk: Buffer) => rest.push(chunk)).resume();
  if (!bed.server.readableEnded) await once(bed.server, "end");
  return Buffer.concat(rest);
}

export const LISTENED = ["readable", "data", "end", "close", "error"] as const;

export function countListeners(socket: Socket): readonly number[] {
  return LISTENED.map((event) => socket.listenerCount(event));
}
