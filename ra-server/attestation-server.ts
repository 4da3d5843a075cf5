/**
 * The attestation server: HTTPS whose certificate proves the enclave (wire/ra-tls.ts), and an API for documents
 * (api/routes.ts). It runs as its own process with no privilege; what it knows is in its settings and in documents.
 */
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { TLSSocket } from "node:tls";

import type { NsmProvider } from "../attest/nsm/nsm-provider.ts";
import type { Log } from "../core/log.ts";
import type { AttestationReport, AttestationServerSettings } from "../wire/attestation-server.ts";
import { createAttestationApi } from "./api/attestation-api.ts";
import { REQUEST_RATES, type RequestRates } from "./api/request-limits.ts";
import { AttestedTime } from "./attested-time.ts";
import { ClientCertificates } from "./client-certificates.ts";
import { ConnectionGuard, GUARD_LIMITS, type GuardLimits } from "./connection-guard.ts";
import { EvidenceSource } from "./evidence-source.ts";
import { IdentityKeeper, KEEPER_TIMING, type KeeperTiming } from "./identity-keeper.ts";
import { SecureListener } from "./secure-listener.ts";
import { ServerMetrics } from "./server-metrics.ts";

export interface AttestationServerOptions {
  readonly settings: AttestationServerSettings;
  /** A function is asked again after a failure, and what it gives is disposed of at the end. */
  readonly provider: NsmProvider | (() => Promise<NsmProvider>);
  /** Begins to accept connections, until disposed. */
  readonly listen: (onConnection: (socket: Socket) => void) => Promise<AsyncDisposable>;
  /** Hears of every change. */
  readonly report: (report: AttestationReport) => void;
  /** The system clock, which nothing here believes beyond what documents say. */
  readonly nowMs: () => number;
  readonly log: Log;
  readonly stop: AbortSignal;
  /** For tests and measurements; what is left out is as in an enclave. */
  readonly timing?: KeeperTiming;
  readonly rates?: RequestRates;
  readonly connections?: GuardLimits;
}

/** The parts of one server. */
interface Parts {
  readonly keeper: IdentityKeeper;
  readonly source: EvidenceSource;
  readonly time: AttestedTime;
  readonly metrics: ServerMetrics;
  readonly guard: ConnectionGuard;
}

/** Clients are kept waiting so long for the first document before they are told that there is none yet. */
const FIRST_DOCUMENT_MS = 3_000;
/** Answers that are on their way at the end. */
const DRAIN_MS = 700;

/**
 * Serves until `stop`. Without documents it serves too, with a certificate that proves nothing: /v1/ready says why, and
 * everything that needs a document is refused by the same code until there is one.
 */
export async function runAttestationServer(options: AttestationServerOptions): Promise<void> {
  const { settings, log, listen, report, stop } = options;
  await using stack = new AsyncDisposableStack();
  const parts = openParts(options, stack);
  const listener = await openListener(options, parts, stack);
  const { keeper, guard } = parts;
  report(keeper.report());
  const keeping = keeper.run((identity) => listener.install(identity), stop);
  await Promise.race([keeper.attempted, delay(FIRST_DOCUMENT_MS, undefined, { ref: false })]);
  const accepting = await listen(listener.accept);
  log.info("listening", { provider: settings.provider, isMutual: settings.clientCa !== null });
  await keeping;
  await accepting[Symbol.asyncDispose]();
  await guard.drain(DRAIN_MS);
}

function openParts(options: AttestationServerOptions, stack: AsyncDisposableStack): Parts {
  const { settings, provider, nowMs, log, report } = options;
  const time = new AttestedTime(nowMs);
  const metrics: ServerMetrics = new ServerMetrics({
    report: () => keeper.report(),
    connections: () => guard.size,
  });
  const onDocument = (jumpMs: number, elapsedMs: number): void => {
    metrics.documentSeconds.observe(elapsedMs / 1000);
    if (jumpMs === 0) return;
    log.warn("the system clock jumped against the documents", { jumpMs: Math.round(jumpMs) });
    report(keeper.report());
  };
  const source = stack.use(
    new EvidenceSource({ provider, providerName: settings.provider, time, monotonicMs, onDocument }),
  );
  const keeper: IdentityKeeper = new IdentityKeeper({
    name: settings.name,
    source,
    time,
    timing: options.timing ?? KEEPER_TIMING,
    log,
    monotonicMs,
    random: Math.random,
    onChange: report,
    onIssue: () => metrics.certificates.inc(),
    onFailure: ({ code }) => metrics.failures.inc({ code }),
  });
  const onCut = (reason: string): void => metrics.cuts.inc({ reason });
  const guard: ConnectionGuard = stack.use(new ConnectionGuard(options.connections ?? GUARD_LIMITS, onCut));
  return { time, metrics, source, keeper, guard };
}

async function openListener(
  { settings, log, stop, rates }: AttestationServerOptions,
  parts: Parts,
  stack: AsyncDisposableStack,
): Promise<SecureListener> {
  const { clientCa } = settings;
  const { time, guard, metrics } = parts;
  const clients = clientCa === null ? undefined : new ClientCertificates(clientCa, () => time.nowMs());
  const checkClient = (socket: Socket): void => {
    if (socket instanceof TLSSocket) clients?.check(socket);
  };
  const api = await createAttestationApi({
    ...parts,
    settings,
    stop,
    rates: rates ?? REQUEST_RATES,
    monotonicMs,
    log,
    checkClient,
    enter: (socket, phase) => listener.enter(socket, phase),
  });
  stack.defer(async () => await api.close());
  const onSecure = (socket: TLSSocket): void => {
    checkClient(socket);
    api.server.emit("connection", socket);
  };
  const onHandshake = (result: string): void => metrics.handshakes.inc({ result });
  const listener: SecureListener = stack.use(new SecureListener({ clientCa, guard, onSecure, onHandshake }));
  return listener;
}

function monotonicMs(): number {
  return performance.now();
}
