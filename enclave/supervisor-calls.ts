/**
 * What the gateway may ask of the supervisor, and what the measured configuration lets it have. The gateway parses
 * bytes from outside, so it is believed nothing: in production it learns its settings and no more.
 */
import { KitError } from "../core/errors.ts";
import type { EnclaveStatus } from "../wire/control.ts";
import type { EnclaveConfig } from "../wire/enclave-config.ts";
import { GATEWAY_SERVICE } from "../wire/enclave-config-decoder.ts";
import type { GatewaySettings, SupervisorCall } from "../wire/supervisor-frames.ts";
import type { ChangeSignal } from "./change-signal.ts";
import type { EventStore } from "./event-store.ts";
import type { LogStore } from "./log-store.ts";
import type { ServiceGroup } from "./service-group.ts";

export interface CallTargets {
  readonly config: EnclaveConfig;
  readonly services: ServiceGroup;
  readonly events: EventStore;
  readonly logs: LogStore;
  readonly status: () => EnclaveStatus;
  readonly onListening: () => void;
  readonly onPoweroff: () => void;
}

/** Computes the result when there is room to send it, so that unsent results never pile up. */
export type LateResult = () => unknown;

/**
 * Carries out one call; waits of reads end early when `signal` aborts.
 * @throws E_CONTROL_FORBIDDEN, E_SERVICE_UNKNOWN, E_ENCLAVE_STOPPING
 */
export async function carryOut(
  call: SupervisorCall,
  targets: CallTargets,
  signal: AbortSignal,
): Promise<LateResult> {
  assertAllowed(call, targets.config);
  const { services, events, logs } = targets;
  switch (call.method) {
    case "hello":
      return () => settingsOf(targets.config);
    case "listening":
      targets.onListening();
      return () => ({});
    case "status":
      return targets.status;
    case "poweroff":
      targets.onPoweroff();
      return () => ({});
    case "events.read": {
      const { after, waitMs } = call.params;
      await waitForNews(events.changes, () => isNews(events.read(after)), waitMs, signal);
      return () => events.read(after);
    }
    case "logs.read": {
      const { waitMs, ...request } = call.params;
      assertKnown(request.services ?? [], targets.config);
      await waitForNews(logs.changes, () => isNews(logs.read(request)), waitMs, signal);
      return () => logs.read(request);
    }
    case "service.start":
      services.startService(call.params.name);
      return () => ({});
    case "service.stop":
      await services.stopService(call.params.name);
      return () => ({});
    case "cancel":
      return () => ({});
    default:
      await services.restartService(call.params.name);
      return () => ({});
  }
}

function assertAllowed(call: SupervisorCall, config: EnclaveConfig): void {
  const isInternal = call.method === "hello" || call.method === "listening" || call.method === "cancel";
  if (config.mode === "production" && !isInternal) {
    throw new KitError(
      "E_CONTROL_FORBIDDEN",
      `${call.method} is refused: the enclave runs in production mode`,
    );
  }
  if (call.method === "logs.read" && !config.logs.ship) {
    throw new KitError("E_CONTROL_FORBIDDEN", "logs are refused: the enclave was built with logs.ship false");
  }
}

function assertKnown(names: readonly string[], config: EnclaveConfig): void {
  const known = new Set([GATEWAY_SERVICE, ...config.services.map((service) => service.name)]);
  const unknown = names.find((name) => !known.has(name));
  if (unknown === undefined) return;
  throw new KitError("E_SERVICE_UNKNOWN", `no service ${JSON.stringify(unknown)} in this enclave`);
}

function settingsOf({ mode, ingressPorts }: EnclaveConfig): GatewaySettings {
  return { control: mode === "development", ingressPorts };
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
