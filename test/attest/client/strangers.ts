/** Servers of strangers, on real sockets; closed by the test that opened them. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";

import { createTlsKey, issueIdentity, type TlsIdentity } from "../../../ra-server/tls-identity.ts";
import { portOf } from "../../ra-server/port-of.ts";

export const HOUR_MS = 3_600_000;

/** Steps that a test leaves to its end, in reverse. */
export type Cleanup = (() => unknown)[];

export async function listenRaw(onConnection: (socket: Socket) => void, cleanup: Cleanup): Promise<number> {
  const server = createServer((socket) => onConnection(socket.on("error", () => undefined)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanup.push(() => server.close());
  return portOf(server);
}

/** A TLS server of a stranger, and what clients said to it. */
export async function listenAsStranger(
  identity: TlsIdentity,
  cleanup: Cleanup,
): Promise<{ readonly port: number; readonly heard: Buffer[] }> {
  const heard: Buffer[] = [];
  const server = createTlsServer(identity, (socket: TLSSocket) => {
    socket.on("data", (chunk: Buffer) => heard.push(chunk)).on("error", () => undefined);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanup.push(() => server.close());
  return { port: portOf(server), heard };
}

/** An identity of its own, with whatever document. */
export async function strangerWith(document?: Uint8Array): Promise<TlsIdentity> {
  return await issueIdentity(await createTlsKey(), {
    name: "signer",
    notBeforeMs: Date.now() - HOUR_MS,
    notAfterMs: Date.now() + HOUR_MS,
    ...(document === undefined ? {} : { document }),
  });
}
