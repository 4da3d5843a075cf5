/** The gateway: everything in the enclave that parses bytes from outside, with no privilege and no state of its own. */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

import { KitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { NativeAddon } from "../native/addon.ts";
import type { DialHost } from "../pf-proxy/egress/egress-dialer.ts";
import { type EnclaveEgress, openEnclaveEgress } from "../pf-proxy/egress/enclave-egress.ts";
import { EgressPolicy } from "../pf-proxy/policy/egress-policy.ts";
import { TrafficLedger } from "../pf-proxy/traffic/traffic-ledger.ts";
import { IngressAcceptor } from "../pf-proxy/ingress-acceptor.ts";
import { decodeEgressConfig } from "../wire/egress-policy.ts";
import { VSOCK_PORT } from "../wire/ports.ts";
import {
  decodeGatewaySettings,
  type GatewaySettings,
  HELD_SOCKETS,
  type HeldSocket,
} from "../wire/supervisor-frames.ts";
import { listenAt, type ListenVsock } from "../native/guest-listener.ts";
import { OpenSockets } from "./open-sockets.ts";
import { SupervisorClient } from "./api/supervisor-client.ts";

export interface GatewayRunOptions {
  /** The socket pair to the supervisor. */
  readonly supervisor: Duplex;
  readonly listenVsock: ListenVsock;
  /** Connects to a port of the host. */
  readonly dialVsock: (port: number, signal: AbortSignal) => Promise<Duplex>;
  readonly openAddon: () => NativeAddon;
  /** Descriptors of the sockets that the supervisor lends, in the order of their names. */
  readonly heldSocketsFd: number;
  readonly log: Log;
  /** Aborts when the supervisor asks the gateway to end. */
  readonly stop: AbortSignal;
}

/** Connections to the control API from the host. */
const MAX_HOST_CONNECTIONS = 64;
/** Connections of initctl inside the enclave. */
const MAX_INSIDE_CONNECTIONS = 16;
/** The supervisor takes fifteen seconds of silence for a hang. */
const ALIVE_MS = 2_000;
/** Streams get so long to send the last entries after the enclave's end. */
const DRAIN_MS = 700;

/** Serves until the supervisor is gone or asks for the end. */
export async function runGateway(options: GatewayRunOptions): Promise<void> {
  const { supervisor, listenVsock, log, stop } = options;
  await using stack = new AsyncDisposableStack();
  const client = new SupervisorClient(supervisor);
  const settings = decodeGatewaySettings(await client.call({ method: "hello" }));
  const ledger = stack.use(openLedger(log));
  const ingress = stack.use(new IngressAcceptor({ ports: settings.ingressPorts, log, ledger }));
  const listeningForIngress = listenVsock(VSOCK_PORT.ingress, (socket) => ingress.accept(socket));
  const egress = stack.use(await openEgress(options, settings, ledger));
  stack.use(await listeningForIngress);
  let drain = async (): Promise<void> => undefined;
  if (settings.control) {
    // Loaded here: in production it stays out, and ingress does not wait for it.
    const { createControlApi } = await import("./api/control-api.ts");
    const { streamSocket } = settings;
    const network = {
      report: () => ledger.report(egress.redirection, egress.listeners()),
      totals: () => ledger.totals,
      checkEgress: (rules: unknown) =>
        void new EgressPolicy(decodeEgressConfig(rules, "egress", refuse).rules),
      setEgress: egress.setConfig,
    };
    const api = await createControlApi({ client, streamSocket, log, network });
    stack.defer(() => api.close());
    const open = new OpenSockets();
    const fromHost = new OpenSockets();
    api.server.on("connection", (socket: Socket) => open.add(socket));
    // A server that listens nowhere enforces no deadlines, so it is the one for inside, and the host's are put in.
    api.server.maxConnections = MAX_INSIDE_CONNECTIONS;
    await listenAt(api.server, settings.controlSocket);
    const accept = (socket: Socket): void => {
      if (fromHost.size >= MAX_HOST_CONNECTIONS) return void socket.destroy();
      fromHost.add(socket);
      api.server.emit("connection", socket);
    };
    const listener = stack.use(await listenVsock(VSOCK_PORT.control, accept));
    stack.defer(() => open.destroy());
    drain = async () => {
      await listener[Symbol.asyncDispose]();
      api.server.close();
      await open.drain(DRAIN_MS);
    };
  }
  await client.call({ method: "listening" });
  const alive = setInterval(() => void client.call({ method: "alive" }).catch(() => undefined), ALIVE_MS);
  stack.defer(() => clearInterval(alive));
  await Promise.race([client.closed, aborted(stop)]);
  await drain();
}

function refuse(message: string): KitError {
  return new KitError("E_EGRESS_RULE", message);
}

function openLedger(log: Log): TrafficLedger {
  return new TrafficLedger({
    side: "enclave",
    log,
    epochMs: () => Date.now(),
    monotonicMs: () => performance.now(),
  });
}

async function openEgress(
  { dialVsock, openAddon, log, heldSocketsFd }: GatewayRunOptions,
  { egress: config, namesJournal: journal, heldSockets }: GatewaySettings,
  ledger: TrafficLedger,
): Promise<EnclaveEgress> {
  const dialHost: DialHost = async (signal) => await dialVsock(VSOCK_PORT.egress, signal);
  const monotonicMs = (): number => performance.now();
  const fdOf = (name: HeldSocket): number => heldSocketsFd + HELD_SOCKETS.indexOf(name);
  const held = new Map(heldSockets.map((name) => [name, fdOf(name)]));
  // The kernel is asked only about what comes by those sockets.
  const original = held.size === 0 ? undefined : openAddon().originalDestination;
  const originalDestination = (fd: number) => original?.(fd);
  const options = { config, originalDestination, dialHost, ledger, journal, monotonicMs, log, held };
  return await openEnclaveEgress(options);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
