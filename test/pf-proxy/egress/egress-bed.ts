/**
 * Both sides of egress in one process, joined by a real Unix socket in place of vsock. A connection to `listen(target)`
 * is what the kernel redirects inside an enclave; the destination is a server on loopback by `connect_to`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";

import { createLog } from "../../../core/log.ts";
import {
  ACCEPTOR_LIMITS,
  type AcceptorLimits,
  EgressAcceptor,
} from "../../../pf-proxy/egress/egress-acceptor.ts";
import { EgressGate, GATE_LIMITS, type GateLimits } from "../../../pf-proxy/egress/egress-gate.ts";
import { HostLookup, type LookupAll } from "../../../pf-proxy/egress/host-lookup.ts";
import { openConnection } from "../../../pf-proxy/open-connection.ts";
import { EgressPolicy, type EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import type { TrafficLedger } from "../../../pf-proxy/traffic/traffic-ledger.ts";
import type { EgressRule } from "../../../wire/egress-policy.ts";
import { openLedger } from "../../fixtures/pf-proxy/silent-ledger.ts";
import { listen } from "../relay-chain.ts";

export interface BedOptions {
  readonly rules: readonly EgressRule[];
  /** The host's copy; the same unless told. */
  readonly hostRules?: readonly EgressRule[];
  readonly gateLimits?: Partial<GateLimits>;
  readonly acceptorLimits?: Partial<AcceptorLimits>;
  readonly lookup?: LookupAll;
  readonly ownAddresses?: readonly string[];
}

/** An allow rule for one name and port whose destination is a port of loopback. */
export function ruleTo(
  host: string,
  port: number,
  toPort: number,
  rest: Partial<EgressRule> = {},
): EgressRule {
  return {
    action: "allow",
    host,
    ports: [{ from: port, to: port }],
    connectTo: { address: "127.0.0.1", port: toPort },
    ...rest,
  };
}

export class EgressBed implements AsyncDisposable {
  readonly gate: EgressGate;
  readonly inside: TrafficLedger;
  readonly outside: TrafficLedger;
  readonly path: string;
  readonly lines: string[] = [];
  #acceptor: EgressAcceptor;
  #server: Server;
  readonly #options: BedOptions;
  readonly #stack: AsyncDisposableStack;

  private constructor(options: BedOptions, directory: string, stack: AsyncDisposableStack) {
    this.#options = options;
    this.#stack = stack;
    this.path = join(directory, "host.sock");
    this.inside = stack.use(openLedger("enclave", (line) => this.lines.push(line)));
    this.outside = stack.use(openLedger("host", (line) => this.lines.push(line)));
    this.#acceptor = this.#createAcceptor();
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    const dialHost = async (signal: AbortSignal): Promise<Duplex> => await openUnix(this.path, signal);
    this.gate = new EgressGate({
      policy: new EgressPolicy(options.rules),
      ledger: this.inside,
      dialHost,
      monotonicMs: () => performance.now(),
      limits: { ...GATE_LIMITS, ...options.gateLimits },
    });
    stack.use(this.gate);
  }

  static async open(options: BedOptions): Promise<EgressBed> {
    const stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "egress-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const bed = new EgressBed(options, directory, stack);
    stack.defer(() => bed.stopHost());
    await bed.startHost();
    return bed;
  }

  /** A place whose connections are for `target`. */
  async listen(target: EgressTarget): Promise<number> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) =>
      this.gate.serve(socket, target),
    );
    const port = await listenOn(server);
    this.#stack.defer(() => void server.close());
    return port;
  }

  /** The host dies: its listener and every connection of it at once. */
  async stopHost(): Promise<void> {
    this.#server.close();
    await this.#acceptor[Symbol.asyncDispose]();
    await rm(this.path, { force: true });
  }

  async startHost(): Promise<void> {
    this.#acceptor = this.#createAcceptor();
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
      this.#acceptor.accept(socket),
    );
    await listen(this.#server, { path: this.path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #createAcceptor(): EgressAcceptor {
    const { rules, hostRules, lookup, ownAddresses, acceptorLimits } = this.#options;
    const monotonicMs = (): number => performance.now();
    return new EgressAcceptor({
      rules: hostRules ?? rules,
      ledger: this.outside,
      lookup: new HostLookup(monotonicMs, lookup),
      log: createLog({ write: (line) => this.lines.push(line), now: () => 0 }),
      monotonicMs,
      limits: { ...ACCEPTOR_LIMITS, ...acceptorLimits },
      ...(ownAddresses === undefined ? {} : { ownAddresses: () => ownAddresses }),
    });
  }
}

export async function openUnix(path: string, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  socket.once("connect", () => resolve(socket)).once("error", reject);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  try {
    return await promise;
  } finally {
    socket.off("error", reject);
  }
}

async function listenOn(server: Server, host = "127.0.0.1"): Promise<number> {
  await listen(server, { port: 0, host });
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

export interface EchoServer extends AsyncDisposable {
  readonly port: number;
  readonly connections: () => number;
}

/** A server on loopback that sends back what comes, half-closes as its client does, and counts. */
export async function openEcho(host = "127.0.0.1"): Promise<EchoServer> {
  const open = new Set<Socket>();
  let count = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    count += 1;
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    socket.on("error", () => undefined).pipe(socket);
  });
  const port = await listenOn(server, host);
  return {
    port,
    connections: () => count,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface Talk {
  readonly answer: Buffer;
  /** Errno name of a reset or refusal; null for a clean end. */
  readonly error: string | null;
}

/** Connects, sends, ends, and takes what comes back until the end. */
export async function talk(port: number, bytes: Uint8Array | string, end = true): Promise<Talk> {
  const chunks: Buffer[] = [];
  try {
    const socket = await openConnection("127.0.0.1", port, AbortSignal.timeout(10_000));
    const { promise, resolve } = Promise.withResolvers<string | null>();
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once("end", () => resolve(null)).once("close", () => resolve(null));
    if (end) socket.end(bytes);
    else socket.write(bytes);
    const error = await promise;
    socket.destroy();
    return { answer: Buffer.concat(chunks), error };
  } catch (error) {
    const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
    return { answer: Buffer.concat(chunks), error: typeof code === "string" ? code : String(error) };
  }
}
