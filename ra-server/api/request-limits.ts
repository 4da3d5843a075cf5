/** How often clients may ask: each connection, and all of them together for what costs signatures. */
import type { Socket } from "node:net";

import { KitError } from "../../core/errors.ts";
import { type Rate, TokenBucket } from "../token-bucket.ts";
import type { Operation } from "./routes.ts";

export interface RequestRates {
  /** Requests of one connection. */
  readonly connection: Rate;
  /** Requests of all connections. */
  readonly all: Rate;
  /** Documents for callers. */
  readonly attestation: Rate;
  /** Verdicts: a document of a stranger costs a signature for each of its certificates. */
  readonly verify: Rate;
}

export const REQUEST_RATES: RequestRates = {
  connection: { perSecond: 50, burst: 100 },
  all: { perSecond: 1000, burst: 2000 },
  attestation: { perSecond: 200, burst: 400 },
  verify: { perSecond: 10, burst: 20 },
};

export class RequestLimits {
  readonly #rates: RequestRates;
  readonly #monotonicMs: () => number;
  readonly #ofConnection = new WeakMap<Socket, TokenBucket>();
  readonly #all: TokenBucket;
  readonly #ofOperation: Partial<Readonly<Record<Operation, TokenBucket>>>;

  constructor(rates: RequestRates, monotonicMs: () => number) {
    this.#rates = rates;
    this.#monotonicMs = monotonicMs;
    this.#all = new TokenBucket(rates.all, monotonicMs);
    this.#ofOperation = {
      attestation: new TokenBucket(rates.attestation, monotonicMs),
      verify: new TokenBucket(rates.verify, monotonicMs),
    };
  }

  /** Counts a request of any kind. @throws E_RA_LIMIT, with `retryAfterMs` in its details */
  admit(connection: Socket): void {
    let bucket = this.#ofConnection.get(connection);
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#rates.connection, this.#monotonicMs);
      this.#ofConnection.set(connection, bucket);
    }
    refuseAfter(bucket.take(), "this connection asks too often");
    refuseAfter(this.#all.take(), "all clients together ask too often");
  }

  /** Counts what an operation costs beside. @throws E_RA_LIMIT */
  admitOperation(operation: Operation): void {
    refuseAfter(
      this.#ofOperation[operation]?.take() ?? 0,
      `all clients together ask too often: ${operation}`,
    );
  }
}

function refuseAfter(retryAfterMs: number, message: string): void {
  if (retryAfterMs > 0) throw new KitError("E_RA_LIMIT", message, { details: { retryAfterMs } });
}
