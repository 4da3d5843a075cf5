/**
 * What the gateway may ask of the supervisor, and what the measured configuration lets it have. The gateway parses
 * bytes from outside, so it is believed nothing: in production it learns its settings and no more.
 */
import { KitError } from "../core/errors.ts";
import type { EnclaveStatus, ReloadOverrides, ReloadResult, UsageReport } from "../wire/control.ts";
import type { EnclaveConfig } from "../wire/enclave-config.ts";
import { OWN_PROCESSES } from "../wire/own-processes.ts";
import type { EventsRead, GatewaySettings, LogsRead, SupervisorCall } from "../wire/supervisor-frames.ts";
import type { ChangeSignal } from "./change-signal.ts";
import type { EventStore } from "./event-store.ts";
import type { LogStore } from "./log-store.ts";
import type { ServiceGroup } from "./service-group.ts";
import type { Sessions } from "./sessions/sessions.ts";

export interface CallTargets {
  readonly config: EnclaveConfig;
  readonly settings: GatewaySettings;
  /** The services are there: until then nobody is shown an enclave without services. */
  readonly started: Promise<void>;
  readonly services: ServiceGroup;
  readonly events: EventStore;
  readonly logs: LogStore;
  /** Undefined in production. */
  readonly sessions: Sessions | undefined;
  readonly status: () => EnclaveStatus;
  readonly stats: () => Promise<UsageReport>;
  readonly reload: (overrides: ReloadOverrides) => Promise<ReloadResult>;
  readonly onListening: () => void;
  /** The gateway says that it does not hang. */
  readonly onAlive: () => void;
  readonly onPoweroff: () => void;
}

/** Computes the result when there is room to send it, so that unsent results never pile up. */
export type LateResult = () => unknown;

/** What the gateway needs for its own work, in every mode. */
const INTERNAL = ["hello", "listening", "alive", "cancel"] as const;

const DONE: LateResult = () => ({});

/**
 * Carries out one call; waits of reads end early when `signal` aborts.
 * @throws E_CONTROL_CLOSED, E_CONTROL_FORBIDDEN, E_SERVICE_UNKNOWN, E_ENCLAVE_STOPPING, E_EXEC_*
 */
export async function carryOut(
  call: SupervisorCall,
  targets: CallTargets,
  signal: AbortSignal,
): Promise<LateResult> {
  assertAllowed(call, targets.config);
  switch (call.method) {
    case "hello":
      return () => targets.settings;
    case "listening":
    case "alive":
    case "cancel":
    case "poweroff":
      return carryOutNotice(call.method, targets);
    case "status":
      await targets.started;
      return targets.status;
    case "stats":
      return just(await targets.stats());
    case "reload":
      return just(await targets.reload(call.params));
    case "events.read":
      return await readEvents(call.params, targets.events, signal);
    case "logs.read":
      return await readLogs(call.params, targets, signal);
    default:
      return await carryOutOther(call, targets, signal);
  }
}

function carryOutNotice(method: (typeof INTERNAL)[number] | "poweroff", targets: CallTargets): LateResult {
  if (method === "poweroff") targets.onPoweroff();
  if (method === "listening") targets.onListening();
  if (method === "alive") targets.onAlive();
  return DONE;
}

function just(value: unknown): LateResult {
  return () => value;
}

async function carryOutOther(
  call: ServiceCall | SessionCall,
  targets: CallTargets,
  signal: AbortSignal,
): Promise<LateResult> {
  switch (call.method) {
    case "service.start":
    case "service.stop":
    case "service.restart":
      await actOnService(call, targets.services);
      return DONE;
    default:
      return await carryOutSession(call, sessionsOf(targets), signal);
  }
}

type ServiceCall = Extract<SupervisorCall, { readonly method: `service.${"start" | "stop" | "restart"}` }>;
type SessionCall = Extract<
  SupervisorCall,
  { readonly method: "archive.create" | `exec.${"create" | "start" | "wait" | "signal" | "resize"}` }
>;

async function carryOutSession(
  call: SessionCall,
  sessions: Sessions,
  signal: AbortSignal,
): Promise<LateResult> {
  switch (call.method) {
    case "exec.create":
      return just(await sessions.createExec(call.params));
    case "archive.create":
      return just(sessions.createArchive(call.params));
    case "exec.start":
      return just(sessions.start(call.params.id, call.params));
    case "exec.wait":
      return just(await sessions.wait(call.params.id, call.params.waitMs, signal));
    case "exec.signal":
      sessions.signal(call.params.id, call.params.signal);
      return DONE;
    case "exec.resize":
      sessions.resize(call.params.id, call.params);
      return DONE;
  }
}

function sessionsOf({ sessions }: CallTargets): Sessions {
  if (sessions !== undefined) return sessions;
  throw new KitError("E_CONTROL_CLOSED", "no command is run in production mode");
}

async function actOnService(
  { method, params: { name } }: ServiceCall,
  services: ServiceGroup,
): Promise<void> {
  if (method === "service.start") services.startService(name);
  else if (method === "service.stop") await services.stopService(name);
  else await services.restartService(name);
}

async function readEvents(
  { after, waitMs }: EventsRead,
  events: EventStore,
  signal: AbortSignal,
): Promise<LateResult> {
  await waitForNews(events.changes, () => isNews(events.read(after)), waitMs, signal);
  return () => events.read(after);
}

async function readLogs(
  { waitMs, ...request }: LogsRead,
  { logs, services }: CallTargets,
  signal: AbortSignal,
): Promise<LateResult> {
  assertKnown(request.services ?? [], services);
  await waitForNews(logs.changes, () => isNews(logs.read(request)), waitMs, signal);
  return () => logs.read(request);
}

function assertAllowed(call: SupervisorCall, config: EnclaveConfig): void {
  if (config.mode === "production" && !INTERNAL.some((method) => method === call.method)) {
    throw new KitError("E_CONTROL_CLOSED", `${call.method} is refused: the enclave runs in production mode`);
  }
  if (call.method === "logs.read" && !config.logs.ship) {
    throw new KitError("E_CONTROL_FORBIDDEN", "logs are refused: the enclave was built with logs.ship false");
  }
}

function assertKnown(names: readonly string[], { services }: ServiceGroup): void {
  const known = new Set<string>([...OWN_PROCESSES, ...services.map((service) => service.config.name)]);
  const unknown = names.find((name) => !known.has(name));
  if (unknown === undefined) return;
  throw new KitError("E_SERVICE_UNKNOWN", `no service ${JSON.stringify(unknown)} in this enclave`);
}

function isNews(page: { readonly entries: readonly unknown[]; readonly final: boolean }): boolean {
  return page.entries.length > 0 || page.final;
}

async function waitForNews(
  changes: ChangeSignal,
  hasNews: () => boolean,
  waitMs: number,
  signal: AbortSignal,
): Promise<void> {
  if (waitMs === 0 || hasNews()) return;
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), waitMs);
  const until = AbortSignal.any([signal, timeout.signal]);
  while (!until.aborted) {
    const changed = changes.changed(until);
    if (hasNews()) break;
    await changed;
  }
  clearTimeout(timer);
}
