/**
 * The sockets to which the kernel redirects services, bound by the supervisor and lent to the gateway. They stay when a
 * gateway dies: until the next one listens, connections wait in their queues. Their ports need a capability, so no
 * service can put itself in the place of the gateway and meet what others wanted to say to somebody outside.
 *
 * Node's own servers accept as soon as they listen, so the handles beneath them are used: bound, never listened on here.
 * Their classes come with a server and a socket of Node.
 */
import { randomUUID } from "node:crypto";
import { createSocket } from "node:dgram";
import { chmod, rm } from "node:fs/promises";
import { createServer } from "node:net";

import { KitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { REDIRECT_PORT } from "../wire/egress-addresses.ts";
import { HELD_SOCKETS, type HeldSocket } from "../wire/supervisor-frames.ts";

interface BoundHandle {
  readonly fd: number;
  bind(address: string, port: number, flags?: number): number;
  bind6(address: string, port: number, flags?: number): number;
  close(): void;
}
interface PipeHandle {
  readonly fd: number;
  bind(path: string): number;
}
type PipeClass = new (type: number) => PipeHandle;
type HandleClass = new (type?: number) => BoundHandle;

export interface HeldSockets extends Disposable {
  /** Descriptors by name; what the machine lacks (IPv6 above all) is absent. */
  readonly descriptors: ReadonlyMap<HeldSocket, number>;
}

/** TCPConstants.SERVER of Node. */
const TCP_SERVER = 1;
/** PipeConstants.SERVER. */
const PIPE_SERVER = 1;

const PLACES: Readonly<Record<HeldSocket, { readonly protocol: "tcp" | "udp"; readonly port: number }>> = {
  egress4: { protocol: "tcp", port: REDIRECT_PORT.egress },
  egress6: { protocol: "tcp", port: REDIRECT_PORT.egress },
  dnsTcp4: { protocol: "tcp", port: REDIRECT_PORT.dns },
  dnsTcp6: { protocol: "tcp", port: REDIRECT_PORT.dns },
  dnsUdp4: { protocol: "udp", port: REDIRECT_PORT.dns },
  dnsUdp6: { protocol: "udp", port: REDIRECT_PORT.dns },
};

/** Never fails: without a socket there is no way out by it, which is the safe side. */
export function holdSockets(log: Log): HeldSockets {
  const classes = { tcp: findTcpClass(), udp: findUdpClass() };
  const handles = new Map<HeldSocket, BoundHandle>();
  for (const name of HELD_SOCKETS) {
    const { protocol, port } = PLACES[name];
    const Handle = classes[protocol];
    if (Handle === undefined) continue;
    const handle = protocol === "tcp" ? new Handle(TCP_SERVER) : new Handle();
    const status = name.endsWith("6") ? handle.bind6("::1", port, 0) : handle.bind("127.0.0.1", port, 0);
    if (status === 0) handles.set(name, handle);
    else {
      handle.close();
      log.info("a socket of egress is missing", { name, status });
    }
  }
  return {
    descriptors: new Map([...handles].map(([name, { fd }]) => [name, fd])),
    [Symbol.dispose]: () => {
      for (const handle of handles.values()) handle.close();
    },
  };
}

/**
 * A Unix socket on which another program will listen, as a descriptor that outlives it. It takes the group of its folder.
 * @throws E_ENCLAVE_VSOCK
 */
export async function holdUnixSocket(path: string, mode: number): Promise<number> {
  await rm(path, { force: true });
  const Handle = findPipeClass();
  const handle = Handle === undefined ? undefined : new Handle(PIPE_SERVER);
  const status = handle?.bind(path) ?? Number.NaN;
  if (handle === undefined || status !== 0)
    throw new KitError("E_ENCLAVE_VSOCK", `no socket at ${path}: ${status}`);
  await chmod(path, mode);
  return handle.fd;
}

/** By a socket without a name in the file system, which is closed as soon as it is there. */
function findPipeClass(): PipeClass | undefined {
  const server = createServer();
  server.on("error", () => undefined).listen({ path: `\0enclave-${randomUUID()}` });
  const handle: unknown = Reflect.get(server, "_handle");
  server.close();
  const found: unknown = typeof handle === "object" && handle !== null ? handle.constructor : undefined;
  return isPipeClass(found) ? found : undefined;
}

function isPipeClass(found: unknown): found is PipeClass {
  return typeof found === "function" && found.name === "Pipe";
}

function findTcpClass(): HandleClass | undefined {
  const server = createServer();
  // Listens on a port of the kernel's choice for as long as this function takes.
  server.on("error", () => undefined).listen({ port: 0 });
  const handle: unknown = Reflect.get(server, "_handle");
  server.close();
  return classOf(handle, "TCP");
}

function findUdpClass(): HandleClass | undefined {
  const socket = createSocket("udp4");
  const states = Object.getOwnPropertySymbols(socket).map((symbol): unknown => Reflect.get(socket, symbol));
  const state = states.find((one) => typeof one === "object" && one !== null && "handle" in one);
  const handle: unknown =
    typeof state === "object" && state !== null ? Reflect.get(state, "handle") : undefined;
  socket.close();
  return classOf(handle, "UDP");
}

function classOf(handle: unknown, name: string): HandleClass | undefined {
  const found: unknown = typeof handle === "object" && handle !== null ? handle.constructor : undefined;
  return isHandleClass(found, name) ? found : undefined;
}

function isHandleClass(found: unknown, name: string): found is HandleClass {
  return typeof found === "function" && found.name === name;
}
