/** The whole of egress inside the enclave: names, resolver, listeners, gate. One owner, opened and closed together. */
import { createServer, type Socket } from "node:net";

import { isErrno } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { REDIRECT_PORT, RESOLVER_ADDRESS } from "../../wire/egress-addresses.ts";
import type { EgressConfig } from "../../wire/egress-policy.ts";
import type { HeldSocket } from "../../wire/supervisor-frames.ts";
import type { NetworkListener } from "../../wire/network-report.ts";
import { NameTable } from "../names/name-table.ts";
import { EgressPolicy, type EgressTarget, suggestRule } from "../policy/egress-policy.ts";
import { parseAddress } from "../policy/network.ts";
import { readConnectRequest } from "../proxies/connect-server.ts";
import { readSocksRequest } from "../proxies/socks-server.ts";
import { openDnsListeners } from "../resolver/dns-listeners.ts";
import { Resolver } from "../resolver/resolver.ts";
import type { TrafficLedger } from "../traffic/traffic-ledger.ts";
import type { DialHost } from "./egress-dialer.ts";
import { EgressGate } from "./egress-gate.ts";
import { NameListeners } from "./name-listeners.ts";
import { type Destination, type HeldListener, openRedirectListener } from "./redirect-listener.ts";

export interface EnclaveEgressOptions {
  readonly config: EgressConfig;
  /** What a redirected connection was for (native/addon.ts). */
  readonly originalDestination: (fd: number) => Destination | undefined;
  readonly dialHost: DialHost;
  readonly ledger: TrafficLedger;
  /** File in which names keep their addresses across restarts. */
  readonly journal: string;
  /** Descriptors of bound sockets that outlive this process (wire/supervisor-frames.ts). */
  readonly held: ReadonlyMap<HeldSocket, number>;
  readonly monotonicMs: () => number;
  readonly log: Log;
}

export interface EnclaveEgress extends AsyncDisposable {
  readonly redirection: "kernel" | "listeners";
  readonly listeners: () => readonly NetworkListener[];
  /** @throws E_EGRESS_RULE, E_EGRESS_NAME */
  readonly setConfig: (config: EgressConfig) => Promise<void>;
}

const DNS_PORT = 53;

/** @throws E_EGRESS_RULE, E_EGRESS_NAME, errno of a listener */
export async function openEnclaveEgress(options: EnclaveEgressOptions): Promise<EnclaveEgress> {
  const { config, ledger, dialHost, monotonicMs, log, journal } = options;
  await using opening = new AsyncDisposableStack();
  const policy = new EgressPolicy(config.rules);
  const gate = opening.use(new EgressGate({ policy, ledger, dialHost, monotonicMs }));
  const names = await NameTable.open({ names: policy.exactNames(), journal });
  const onConnection = (socket: Socket, destination: Destination): void =>
    gate.serve(socket, targetOf(destination, names));
  const redirect = opening.use(
    await openRedirectListener({
      onConnection,
      originalDestination: (socket) => askKernel(socket, options.originalDestination),
      held: listHeld(options.held, "egress"),
    }),
  );
  const byName = opening.use(new NameListeners({ policy: () => gate.policy, names, log, onConnection }));
  if (!redirect.isRedirected) await byName.openExactNames();
  const resolver = new Resolver({
    answersName: (name) => gate.policy.answersName(name),
    names,
    ipv6: redirect.addresses.includes("::1"),
    ...(redirect.isRedirected ? {} : { beforeAnswer: async (name: string) => await byName.openName(name) }),
    onDenied: (name, reason) => denyName(ledger, name, reason),
  });
  const dns = redirect.isRedirected
    ? { addresses: redirect.addresses, port: REDIRECT_PORT.dns }
    : { addresses: [RESOLVER_ADDRESS], port: DNS_PORT };
  const lent = {
    udp: listHeld(options.held, "dnsUdp"),
    tcp: listHeld(options.held, "dnsTcp"),
  };
  const listening = redirect.isRedirected ? { held: lent, resolver, log } : { ...dns, resolver, log };
  const answering = await unlessTaken(openDnsListeners(listening), log);
  if (answering !== undefined) opening.use(answering);
  const proxies = opening.use(await openProxies(config.proxies, gate, log));
  const owned = opening.move();
  return {
    redirection: redirect.isRedirected ? "kernel" : "listeners",
    listeners: () => [
      ...describeListeners("resolver", dns.addresses, dns.port),
      ...(redirect.isRedirected ? describeListeners("egress", redirect.addresses, REDIRECT_PORT.egress) : []),
      ...byName.places.flatMap(({ address, port }) => describeListeners("egress", [address], port)),
      ...proxies.listeners,
    ],
    setConfig: async (next) => {
      gate.setPolicy(new EgressPolicy(next.rules));
      if (!redirect.isRedirected) await byName.openExactNames();
    },
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

/** Where the kernel does not redirect a service may have port 53. Names then lead nowhere; ingress must go on. */
async function unlessTaken(
  opening: Promise<AsyncDisposable>,
  log: Log,
): Promise<AsyncDisposable | undefined> {
  try {
    return await opening;
  } catch (error) {
    if (!isErrno(error)) throw error;
    log.error("the resolver does not listen", { reason: error.code });
    return undefined;
  }
}

function listHeld(
  held: ReadonlyMap<HeldSocket, number>,
  purpose: "egress" | "dnsTcp" | "dnsUdp",
): HeldListener[] {
  const places = [
    ["127.0.0.1", held.get(`${purpose}4`)],
    ["::1", held.get(`${purpose}6`)],
  ] as const;
  return places.flatMap(([address, fd]) => (fd === undefined ? [] : [{ address, fd }]));
}

/** A name's own address stands for the name; any other address for itself. */
function targetOf({ address, port }: Destination, names: NameTable): EgressTarget {
  const name = names.nameAt(address);
  if (name !== undefined) return { kind: "name", host: name, port };
  return { kind: "address", host: parseAddress(address) ?? address, port };
}

function denyName(ledger: TrafficLedger, name: string, reason: "no_rule" | "not_a_name" | "limit"): void {
  const allow = reason === "no_rule" ? suggestRule({ kind: "name", host: name, port: 443 }) : null;
  ledger.deny({ target: name, reason, allow });
}

/** Node keeps the descriptor of a socket to itself; its handle has it. */
function askKernel(
  socket: Socket,
  originalDestination: EnclaveEgressOptions["originalDestination"],
): Destination | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  if (typeof fd !== "number" || fd < 0) return undefined;
  return originalDestination(fd);
}

interface Proxies extends AsyncDisposable {
  readonly listeners: readonly NetworkListener[];
}

const LOOPBACK = "127.0.0.1";

/** A port that a service has taken costs that proxy, not the gateway. */
async function openProxies(
  { http, socks }: EgressConfig["proxies"],
  gate: EgressGate,
  log: Log,
): Promise<Proxies> {
  await using opening = new AsyncDisposableStack();
  const listeners: NetworkListener[] = [];
  const open = async (
    purpose: "http proxy" | "socks proxy",
    port: number | undefined,
    read: typeof readSocksRequest,
  ): Promise<void> => {
    if (port === undefined) return;
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) =>
      gate.serveProxy(socket, read),
    );
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject).listen({ host: LOOPBACK, port, backlog: 511 }, resolve);
    try {
      await promise;
    } catch (error) {
      if (!isErrno(error)) throw error;
      return log.error("a proxy does not listen", { purpose, port, reason: error.code });
    }
    server.off("error", reject).on("error", () => undefined);
    opening.defer(() => void server.close());
    listeners.push({ purpose, protocol: "tcp", address: LOOPBACK, port });
  };
  await open("http proxy", http, readConnectRequest);
  await open("socks proxy", socks, readSocksRequest);
  const owned = opening.move();
  return { listeners, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}

function describeListeners(
  purpose: NetworkListener["purpose"],
  addresses: readonly string[],
  port: number,
): NetworkListener[] {
  const protocols = purpose === "resolver" ? (["udp", "tcp"] as const) : (["tcp"] as const);
  return addresses.flatMap((address) => protocols.map((protocol) => ({ purpose, protocol, address, port })));
}
