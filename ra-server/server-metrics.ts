/** What the server counts, for Prometheus. A registry of its own: one process may hold more than one server. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

import type { AttestationReport } from "../wire/attestation-server.ts";

export interface MetricsSources {
  readonly report: () => AttestationReport;
  readonly connections: () => number;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const PREFIX = "enclave_attestation_";

export class ServerMetrics {
  readonly registry = new Registry();
  readonly requests = this.#counter("requests_total", "Requests that were answered", ["operation", "status"]);
  readonly handshakes = this.#counter("handshakes_total", "TLS handshakes", ["result"]);
  readonly cuts = this.#counter("connections_cut_total", "Connections that were ended by the server", [
    "reason",
  ]);
  readonly failures = this.#counter("failures_total", "Documents that could not be had", ["code"]);
  readonly certificates = this.#counter("certificates_total", "Certificates that were issued", []);
  readonly documentSeconds = new Histogram({
    name: `${PREFIX}document_seconds`,
    help: "Time that the NSM takes for a document, with waiting",
    buckets: SECONDS,
    registers: [this.registry],
  });

  constructor({ report, connections }: MetricsSources) {
    this.#gauge("connections", "Open connections", connections);
    this.#gauge("ready", "1 if documents can be had", () => (report().state === "ready" ? 1 : 0));
    this.#gauge("document_time_seconds", "Time of the newest document", () =>
      seconds(report().documentTimeMs),
    );
    this.#gauge("clock_offset_seconds", "System clock minus the time of the newest document", () =>
      seconds(report().clockOffsetMs),
    );
    this.#gauge("clock_jumps", "Jumps of the system clock against documents", () => report().clockJumps);
    this.#gauge("certificate_not_after_seconds", "End of the certificate's validity", () =>
      seconds(report().certificateNotAfterMs),
    );
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: `${PREFIX}${name}`, help, labelNames, registers: [this.registry] });
  }

  #gauge(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({
      name: `${PREFIX}${name}`,
      help,
      registers: [this.registry],
      collect: () => gauge.set(read()),
    });
  }
}

/** Prometheus has a word for what is not known. */
function seconds(timeMs: number | null): number {
  return timeMs === null ? Number.NaN : timeMs / 1000;
}
