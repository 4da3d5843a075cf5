/**
 * The enclave's end of ingress: takes connections from vsock 8444, reads the preface (wire/ingress-preface.ts), allows
 * what the measured configuration publishes, dials the service on loopback, answers one byte, relays.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

import { Deadline } from "../core/deadline.ts";
import { isErrno, KitError, toKitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import {
  decodeIngressPreface,
  INGRESS_PREFACE_BYTES,
  INGRESS_STATUS,
  type IngressStatus,
} from "../wire/ingress-preface.ts";
import { openConnection } from "./open-connection.ts";
import { readExactly } from "./preface-reader.ts";
import { relay } from "./relay.ts";
import type { TrafficLedger } from "./traffic/traffic-ledger.ts";

export interface IngressLimits {
  /** Connections at one time; the next is answered `busy`. */
  readonly connections: number;
  /** Of these, how many may be without a complete preface. */
  readonly waiting: number;
  readonly prefaceTimeoutMs: number;
  readonly dialTimeoutMs: number;
}

export const INGRESS_LIMITS: IngressLimits = {
  connections: 4096,
  waiting: 256,
  prefaceTimeoutMs: 5_000,
  dialTimeoutMs: 5_000,
};

export interface IngressOptions {
  /** Ports that may be reached. */
  readonly ports: readonly number[];
  readonly log: Log;
  readonly ledger: TrafficLedger;
  readonly limits?: IngressLimits;
}

/** Owns the connections it accepted; dispose resets them and waits for their end. */
export class IngressAcceptor implements AsyncDisposable {
  readonly #ports: ReadonlySet<number>;
  readonly #limits: IngressLimits;
  readonly #log: Log;
  readonly #ledger: TrafficLedger;
  readonly #stop = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  #waiting = 0;

  constructor(options: IngressOptions) {
    this.#ports = new Set(options.ports);
    this.#limits = options.limits ?? INGRESS_LIMITS;
    this.#log = options.log;
    this.#ledger = options.ledger;
  }

  get connections(): number {
    return this.#tasks.size;
  }

  /** Takes over a connection that nothing was read from; it must allow half-open connections. */
  accept(connection: Duplex): void {
    connection.on("error", (error) =>
      this.#log.debug("ingress connection failed", { reason: error.message }),
    );
    const full = this.#tasks.size >= this.#limits.connections || this.#waiting >= this.#limits.waiting;
    if (full || this.#stop.signal.aborted) {
      answer(connection, "busy");
      return;
    }
    const task = this.#serve(connection);
    this.#tasks.add(task);
    void task.finally(() => this.#tasks.delete(task));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new KitError("E_CANCELLED", "the ingress listener is being closed"));
    await Promise.all(this.#tasks);
  }

  async #serve(connection: Duplex): Promise<void> {
    try {
      const port = await this.#readPort(connection);
      await this.#carry(connection, port);
    } catch (error) {
      const { code, message } = toKitError(error);
      this.#log.info("ingress connection refused", { code, reason: message });
      connection.destroy();
    }
  }

  async #carry(connection: Duplex, port: number): Promise<void> {
    const entry = this.#ledger.open({ direction: "ingress", peer: `port ${port}` });
    let isOpen = false;
    try {
      if (!this.#ports.has(port)) {
        this.#ledger.deny({ target: `ingress to port ${port}`, reason: "not_published", allow: null });
        return answer(connection, "notPublished");
      }
      const service = await this.#dial(port);
      if (service === undefined) return answer(connection, "refused");
      isOpen = true;
      entry.open();
      connection.write(Uint8Array.of(INGRESS_STATUS.connected));
      await relay(connection, service, {
        signal: this.#stop.signal,
        onBytes: (from, sizeBytes) => (from === "a" ? entry.addIn(sizeBytes) : entry.addOut(sizeBytes)),
      });
    } finally {
      entry.close(!isOpen);
    }
  }

  async #readPort(connection: Duplex): Promise<number> {
    using deadline = new Deadline(this.#stop.signal, this.#limits.prefaceTimeoutMs);
    this.#waiting += 1;
    try {
      return decodeIngressPreface(await readExactly(connection, INGRESS_PREFACE_BYTES, deadline.signal));
    } finally {
      this.#waiting -= 1;
    }
  }

  /** The service's socket, or undefined if nothing listens on either loopback address. */
  async #dial(port: number): Promise<Socket | undefined> {
    for (const host of ["127.0.0.1", "::1"]) {
      using deadline = new Deadline(this.#stop.signal, this.#limits.dialTimeoutMs);
      try {
        return await openConnection(host, port, deadline.signal);
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        if (!isErrno(error, "ECONNREFUSED"))
          this.#log.info("ingress dial failed", { port, reason: String(error) });
      }
    }
    return undefined;
  }
}

/** Says one status other than `connected`, then closes; a peer that does not read it is cut off. */
function answer(connection: Duplex, status: IngressStatus): void {
  connection.end(Uint8Array.of(INGRESS_STATUS[status]), () => connection.destroy());
}
