/**
 * The host's side of an enclave's network: TCP listeners of published ports, which come and go while the enclave runs,
 * and the acceptor of what the enclave wants to reach.
 */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { EgressAcceptor } from "../../pf-proxy/egress/egress-acceptor.ts";
import { HostLookup } from "../../pf-proxy/egress/host-lookup.ts";
import { type IngressListener, openIngressListener } from "../../pf-proxy/ingress-listener.ts";
import { TrafficLedger } from "../../pf-proxy/traffic/traffic-ledger.ts";
import type { EgressConfig } from "../../wire/egress-policy.ts";
import type { NetworkListener, NetworkReport } from "../../wire/network-report.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import { formatPortMapping } from "../config/port-mapping.ts";

export interface NetworkSideOptions {
  readonly ports: readonly PortSpec[];
  readonly egress: EgressConfig;
  readonly log: Log;
  /** Where the attestation server is published; null: nowhere. */
  readonly attestationPort: Omit<PortSpec, "servicePort"> | null;
  readonly dialAttestation: (signal: AbortSignal) => Promise<Duplex>;
  /** Connects to the ingress port of the enclave. */
  readonly dialIngress: (signal: AbortSignal) => Promise<Duplex>;
  /** The listeners have changed. */
  readonly onPorts: (
    ports: readonly PortSpec[],
    attestationPort: Omit<PortSpec, "servicePort"> | null,
  ) => void;
  /** Ends every connection. */
  readonly signal: AbortSignal;
}

interface OpenPort {
  readonly port: PortSpec;
  readonly listener: IngressListener;
}

const MAX_PORTS = 256;

export class NetworkSide implements AsyncDisposable {
  readonly #options: NetworkSideOptions;
  readonly #ledger: TrafficLedger;
  readonly #egress: EgressAcceptor;
  /** Service ports that the image publishes. */
  readonly #published: ReadonlySet<number>;
  #open: readonly OpenPort[] = [];
  #attestation: IngressListener | undefined;
  #rules: EgressConfig;
  #isDraining = false;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: NetworkSideOptions) {
    this.#options = options;
    const monotonicMs = (): number => performance.now();
    const { log, egress } = options;
    this.#rules = egress;
    this.#ledger = new TrafficLedger({ side: "host", log, epochMs: () => Date.now(), monotonicMs });
    const lookup = new HostLookup(monotonicMs);
    this.#egress = new EgressAcceptor({
      rules: egress.rules,
      ledger: this.#ledger,
      lookup,
      log,
      monotonicMs,
    });
    this.#published = new Set(options.ports.map(({ servicePort }) => servicePort));
  }

  /** @throws E_HOST_PORT_IN_USE, E_HOST_PORT_REFUSED, E_EGRESS_RULE, E_EGRESS_NAME */
  static async open(options: NetworkSideOptions): Promise<NetworkSide> {
    await using opening = new AsyncDisposableStack();
    const side = opening.use(new NetworkSide(options));
    const opened = await Promise.allSettled(options.ports.map(async (port) => await side.#listen(port)));
    side.#open = opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    const failed = opened.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    if (options.attestationPort !== null) await side.#publishAttestation(options.attestationPort);
    side.#tell();
    opening.move();
    return side;
  }

  get ports(): readonly PortSpec[] {
    return this.#open.map(({ port }) => port);
  }

  /** A connection of the enclave to its egress port. */
  acceptEgress(connection: Duplex): void {
    this.#egress.accept(connection);
  }

  /** @param config undefined: the image's own. @returns the rules before. @throws E_EGRESS_RULE, E_EGRESS_NAME */
  setEgress(config: EgressConfig = this.#options.egress): EgressConfig {
    const before = this.#rules;
    this.#egress.setRules(config.rules);
    this.#rules = config;
    return before;
  }

  report(): NetworkReport {
    return this.#ledger.report(null, [...this.#open.map(describeListener), ...this.#describeAttestation()]);
  }

  /** @throws E_PORT_NOT_PUBLISHED, E_PORT_LIMIT, E_HOST_PORT_IN_USE, E_HOST_PORT_REFUSED */
  async addPort(port: PortSpec): Promise<PortSpec> {
    return await this.#inTurn(async () => {
      if (!this.#published.has(port.servicePort))
        throw new KitError("E_PORT_NOT_PUBLISHED", `the image does not publish port ${port.servicePort}`);
      if (this.#open.length >= MAX_PORTS || this.#isDraining)
        throw new KitError(
          "E_PORT_LIMIT",
          this.#isDraining ? "the enclave is stopping" : `${MAX_PORTS} ports are open`,
        );
      const added = await this.#listen(port);
      this.#open = [...this.#open, added];
      this.#tell();
      return added.port;
    });
  }

  /** Closes the listener; its connections go on. @throws E_PORT_UNKNOWN */
  async removePort(port: PortSpec): Promise<void> {
    await this.#inTurn(async () => {
      const found = this.#open.find((one) => isSame(one.port, port));
      if (found === undefined)
        throw new KitError("E_PORT_UNKNOWN", `nothing listens for ${formatPortMapping(port)}`);
      found.listener.drain();
      this.#open = this.#open.filter((one) => one !== found);
      this.#tell();
      await Promise.resolve();
    });
  }

  /** Takes no more connections from outside; those that are go on until the machine ends. */
  drain(): void {
    this.#isDraining = true;
    for (const { listener } of this.#open) listener.drain();
    this.#attestation?.drain();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([
      ...this.#open.map(async ({ listener }) => await listener[Symbol.asyncDispose]()),
      this.#attestation?.[Symbol.asyncDispose](),
      this.#egress[Symbol.asyncDispose](),
    ]);
    this.#ledger[Symbol.dispose]();
  }

  async #listen(port: PortSpec): Promise<OpenPort> {
    const { dialIngress: dial, signal } = this.#options;
    const listener = await openIngressListener({ ...port, dial, signal, ledger: this.#ledger });
    return { port: { ...port, hostPort: listener.hostPort }, listener };
  }

  /** Where the attestation server is published, with the port that was free. */
  get attestationPort(): Omit<PortSpec, "servicePort"> | null {
    const { attestationPort: place } = this.#options;
    if (place === null || this.#attestation === undefined) return null;
    return { hostAddress: place.hostAddress, hostPort: this.#attestation.hostPort };
  }

  #describeAttestation(): NetworkListener[] {
    const place = this.attestationPort;
    if (place === null) return [];
    const { hostAddress: address, hostPort: port } = place;
    return [{ purpose: "attestation", protocol: "tcp", address, port }];
  }

  async #publishAttestation(place: Omit<PortSpec, "servicePort">): Promise<void> {
    const { dialAttestation: dial, signal } = this.#options;
    const own = { servicePort: null, dial, signal, ledger: this.#ledger };
    this.#attestation = await openIngressListener({ ...place, ...own });
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => undefined);
    return await mine;
  }

  #tell(): void {
    this.#options.onPorts(this.ports, this.attestationPort);
  }
}

function isSame(a: PortSpec, b: PortSpec): boolean {
  return a.hostAddress === b.hostAddress && a.hostPort === b.hostPort && a.servicePort === b.servicePort;
}

function describeListener({ port }: OpenPort): NetworkListener {
  const { hostAddress: address, hostPort, servicePort } = port;
  return { purpose: "ingress", protocol: "tcp", address, port: hostPort, servicePort };
}
