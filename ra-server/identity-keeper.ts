/**
 * Keeps the server provable: a certificate that is renewed long before its document ends, a document now and then for the
 * time, and after a failure another attempt, with growing delays. It never looks for evidence elsewhere.
 *
 *   starting --document--> ready --no document--> failed --document--> ready
 *   starting --no document--> failed
 *
 * A certificate outlives a failure until its document ends; then, and where there never was one, clients get a certificate
 * without evidence, over which the server can say why.
 */
import { setTimeout as delay } from "node:timers/promises";

import { backoffDelayMs, type BackoffPolicy } from "../core/backoff.ts";
import { KitError, toKitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { AttestationReport } from "../wire/attestation-server.ts";
import type { AttestedTime } from "./attested-time.ts";
import type { EvidenceSource } from "./evidence-source.ts";
import { createTlsKey, issueIdentity, type TlsIdentity } from "./tls-identity.ts";

export interface KeeperTiming {
  /** A certificate is replaced after so long, or after half of what its document has left. */
  readonly renewMs: number;
  /** A document for the time. */
  readonly sampleMs: number;
  readonly backoff: BackoffPolicy;
}

export const KEEPER_TIMING: KeeperTiming = {
  renewMs: 3_600_000,
  sampleMs: 60_000,
  backoff: { initialMs: 500, maximumMs: 30_000, jitter: 0.2 },
};

export interface KeeperOptions {
  /** Common name of certificates. */
  readonly name: string;
  readonly source: EvidenceSource;
  readonly time: AttestedTime;
  readonly timing: KeeperTiming;
  readonly log: Log;
  readonly monotonicMs: () => number;
  readonly random: () => number;
  readonly onChange: (report: AttestationReport) => void;
  readonly onIssue: () => void;
  readonly onFailure: (error: KitError) => void;
}

interface Issued {
  readonly notAfterMs: number;
  /** By the monotonic clock. */
  readonly renewAtMs: number;
}

const DAY_MS = 86_400_000;

export class IdentityKeeper {
  readonly #options: KeeperOptions;
  readonly #attempted = Promise.withResolvers<void>();
  #install: (identity: TlsIdentity) => void = () => undefined;
  #issued: Issued | undefined;
  #state: AttestationReport["state"] = "starting";
  #failure: KitError | undefined;
  #failures = 0;
  #sleep = new AbortController();

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  report(): AttestationReport {
    const reason =
      this.#failure === undefined ? null : { code: this.#failure.code, message: this.#failure.message };
    return {
      state: this.#state,
      reason,
      ...this.#options.time.report(),
      certificateNotAfterMs: this.#issued?.notAfterMs ?? null,
    };
  }

  /** @throws the failure because of which no document can be had; E_RA_STARTING */
  requireReady(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state !== "ready") throw new KitError("E_RA_STARTING", "the first document is on its way");
  }

  /** Somebody could not have a document: whether that is so for all is found out now. */
  wake(): void {
    if (this.#state === "ready") this.#sleep.abort();
  }

  /** Resolves when the first document came, or did not. */
  get attempted(): Promise<void> {
    return this.#attempted.promise;
  }

  /**
   * Until `stop`.
   * @param install gets a certificate for every handshake from now on; the first, which proves nothing, before any wait.
   */
  async run(install: (identity: TlsIdentity) => void, stop: AbortSignal): Promise<void> {
    this.#install = install;
    await this.#installBare();
    while (!stop.aborted) {
      await this.#attempt(stop);
      this.#attempted.resolve();
      if (!stop.aborted) await this.#rest(stop);
    }
  }

  async #rest(stop: AbortSignal): Promise<void> {
    this.#sleep = new AbortController();
    const signal = AbortSignal.any([stop, this.#sleep.signal]);
    await delay(this.#restMs(), undefined, { signal }).catch(() => undefined);
  }

  #restMs(): number {
    const { timing, random, monotonicMs } = this.#options;
    if (this.#failures > 0) return backoffDelayMs(timing.backoff, this.#failures - 1, random);
    const renewInMs = (this.#issued?.renewAtMs ?? 0) - monotonicMs();
    return Math.max(1, Math.min(timing.sampleMs, renewInMs));
  }

  async #attempt(stop: AbortSignal): Promise<void> {
    try {
      if (this.#isRenewalDue()) await this.#issue(stop);
      else await this.#options.source.ofTime(stop);
      this.#succeed();
    } catch (error) {
      if (stop.aborted) return;
      await this.#fail(toKitError(error));
    }
    this.#options.onChange(this.report());
  }

  #isRenewalDue(): boolean {
    return this.#issued === undefined || this.#options.monotonicMs() >= this.#issued.renewAtMs;
  }

  async #issue(stop: AbortSignal): Promise<void> {
    const { source, name, timing, monotonicMs, log, onIssue } = this.#options;
    const key = await createTlsKey();
    const { bytes, timestampMs, leaf } = await source.ofTlsKey(key.spki, stop);
    const { notBeforeMs, notAfterMs } = leaf;
    this.#install(await issueIdentity(key, { name, notBeforeMs, notAfterMs, document: bytes }));
    const leftMs = notAfterMs - timestampMs;
    this.#issued = { notAfterMs, renewAtMs: monotonicMs() + Math.min(timing.renewMs, leftMs / 2) };
    onIssue();
    log.info("certificate issued", { notAfter: new Date(notAfterMs).toISOString() });
  }

  #succeed(): void {
    if (this.#state === "failed") this.#options.log.info("documents can be had again");
    this.#state = "ready";
    this.#failure = undefined;
    this.#failures = 0;
  }

  async #fail(error: KitError): Promise<void> {
    const { log, time, onFailure } = this.#options;
    if (this.#failure?.code !== error.code) {
      log.error("no document can be had", { code: error.code, reason: error.message });
    }
    this.#state = "failed";
    this.#failure = error;
    this.#failures += 1;
    onFailure(error);
    if (this.#issued === undefined || time.nowMs() < this.#issued.notAfterMs) return;
    this.#issued = undefined;
    await this.#installBare();
  }

  async #installBare(): Promise<void> {
    const { time, name } = this.#options;
    const nowMs = time.nowMs();
    const content = { name, notBeforeMs: nowMs - DAY_MS, notAfterMs: nowMs + 365 * DAY_MS };
    this.#install(await issueIdentity(await createTlsKey(), content));
  }
}
