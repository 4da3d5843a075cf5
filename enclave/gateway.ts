/** The gateway: everything in the enclave that parses bytes from outside, with no privilege and no state of its own. */
import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";

import type { Log } from "../core/log.ts";
import { IngressAcceptor } from "../pf-proxy/ingress-acceptor.ts";
import { VSOCK_PORT } from "../wire/ports.ts";
import { decodeGatewaySettings } from "../wire/supervisor-frames.ts";
import { listenAt } from "./guest-listener.ts";
import { SupervisorClient } from "./api/supervisor-client.ts";

export interface GatewayRunOptions {
  /** The socket pair to the supervisor. */
  readonly supervisor: Duplex;
  /** Lets a server hear a vsock port. */
  readonly listenVsock: (server: Server, port: number) => Promise<void>;
  readonly log: Log;
  /** Aborts when the supervisor asks the gateway to end. */
  readonly stop: AbortSignal;
}

/** Connections of initctl inside the enclave. */
const MAX_INSIDE_CONNECTIONS = 16;
/** The supervisor takes fifteen seconds of silence for a hang. */
const ALIVE_MS = 2_000;
/** Streams get so long to send the last entries after the enclave's end. */
const DRAIN_MS = 700;

/** Serves until the supervisor is gone or asks for the end. */
export async function runGateway({ supervisor, listenVsock, log, stop }: GatewayRunOptions): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const client = new SupervisorClient(supervisor);
  const settings = decodeGatewaySettings(await client.call({ method: "hello" }));
  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: false });
  // A listener is closed when its connections are, so these go first.
  stack.defer(() => closeListener(listener));
  const ingress = stack.use(new IngressAcceptor({ ports: settings.ingressPorts, log }));
  listener.on("connection", (socket) => ingress.accept(socket));
  await listenVsock(listener, VSOCK_PORT.ingress);
  let control: Server | undefined;
  if (settings.control) {
    // Loaded here: in production it stays out, and ingress does not wait for it.
    const { createControlApi } = await import("./api/control-api.ts");
    const { streamSocket } = settings;
    const api = await createControlApi({ client, streamSocket, log });
    stack.defer(() => api.close());
    control = api.server;
    const destroyOpen = trackConnections(control);
    await listenVsock(control, VSOCK_PORT.control);
    const inside = createServer({ allowHalfOpen: true }, (socket) => api.server.emit("connection", socket));
    inside.maxConnections = MAX_INSIDE_CONNECTIONS;
    stack.defer(() => closeListener(inside));
    await listenAt(inside, settings.controlSocket);
    stack.defer(destroyOpen);
  }
  await client.call({ method: "listening" });
  const alive = setInterval(() => void client.call({ method: "alive" }).catch(() => undefined), ALIVE_MS);
  stack.defer(() => clearInterval(alive));
  await Promise.race([client.closed, aborted(stop)]);
  if (control !== undefined) await drain(control);
}

/** Destroys what is open when it is called, streams too, which the HTTP server has let go. */
function trackConnections(server: Server): () => void {
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  return () => {
    for (const socket of open) socket.destroy();
  };
}

/** No new connections; those that are there may end by themselves for a while. */
async function drain(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, DRAIN_MS);
  server.close(() => resolve());
  await promise;
  clearTimeout(timer);
}

async function closeListener(server: Server): Promise<void> {
  if (!server.listening) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  await promise;
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
