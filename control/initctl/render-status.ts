/** Statuses as systemctl's user knows them. All of it comes from the enclave, so nothing of it moves the cursor. */
import { toPrintable } from "../../core/printable.ts";
import type { Terminal } from "../../core/terminal.ts";
import { renderAge, renderBytes, renderDuration, renderTable } from "../../core/text-table.ts";
import type {
  AttestationStatus,
  EnclaveStatus,
  LimitStatus,
  ServiceStatus,
  ServiceUsage,
} from "../../wire/control.ts";

const DOTS = { good: "●", waiting: "○", bad: "×" } as const;
const COLOURS = { good: "green", waiting: "yellow", bad: "red" } as const;

type Verdict = keyof typeof DOTS;

export function isActive({ state }: ServiceStatus): boolean {
  return state === "running";
}

function judge({ state, health, reason }: ServiceStatus): Verdict {
  if (state === "running") return health === "unhealthy" ? "bad" : health === "starting" ? "waiting" : "good";
  if (state === "failed" || state === "crash_loop" || state === "blocked" || state === "backoff")
    return "bad";
  return state === "exited" && reason !== "exited(0)" && reason !== null ? "bad" : "waiting";
}

function dotOf(service: ServiceStatus, terminal: Terminal): string {
  const verdict = judge(service);
  return terminal.colour(COLOURS[verdict], DOTS[verdict]);
}

/** `running (healthy)`. */
export function describeState({ state, health }: ServiceStatus): string {
  return state !== "running" || health === "none" ? state : `${state} (${health})`;
}

/** The whole enclave: a few lines, then a row for each service. */
export function renderEnclave(status: EnclaveStatus, terminal: Terminal, nowMs: number): string {
  const { services, supervisor, gateway, attestationServer } = status;
  const verdicts = services.map(judge);
  const state = status.stopping ? "stopping" : verdicts.includes("bad") ? "degraded" : "running";
  const colour = state === "running" ? "green" : state === "degraded" ? "red" : "yellow";
  const previous = supervisor.previousExit === null ? "" : `, the one before: ${supervisor.previousExit}`;
  const lines = [
    `${terminal.colour(colour, "●")} ${status.name}`,
    `       State: ${terminal.colour(colour, state)}`,
    `        Mode: ${status.mode}, attestation ${status.attestation}`,
    `    Services: ${services.filter(isActive).length} running of ${services.length}${status.overridden ? ", overridden by a reload" : ""}`,
    `   Isolation: ${status.isolated ? "services are kept apart" : "not isolated: all services share one user id"}`,
    `  Supervisor: pid ${supervisor.pid}, restarts ${supervisor.restarts}${previous}`,
    `     Gateway: pid ${gateway.pid ?? "-"}, restarts ${gateway.restarts}`,
    ` Attestation: ${attestationServer.state}, pid ${attestationServer.pid ?? "-"}, restarts ${attestationServer.restarts}${renderReason(attestationServer)}`,
  ];
  return toPrintable([...lines, "", renderServices(services, terminal, nowMs)].join("\n"));
}

function renderReason({ reason }: AttestationStatus): string {
  return reason === null ? "" : `: ${reason.code}: ${reason.message}`;
}

const HEAD = ["  SERVICE", "STATE", "PID", "SINCE", "RESTARTS", "REASON"];

/** One row for each service. */
export function renderServices(
  services: readonly ServiceStatus[],
  terminal: Terminal,
  nowMs: number,
): string {
  const rows = services.map((service) => [
    `${DOTS[judge(service)]} ${service.name}`,
    describeState(service),
    String(service.pid ?? "-"),
    service.startedAt === null ? "-" : renderAge(nowMs - service.startedAt),
    String(service.restarts),
    reasonOf(service) ?? "-",
  ]);
  const [head = "", ...lines] = renderTable([HEAD, ...rows]).split("\n");
  // Coloured afterwards: what sets a colour has no width.
  const coloured = services.map(
    (service, index) => dotOf(service, terminal) + (lines[index]?.slice(1) ?? ""),
  );
  return toPrintable([head, ...coloured].join("\n"));
}

function reasonOf({ reason, health, healthDetail }: ServiceStatus): string | null {
  return health === "unhealthy" && healthDetail !== null ? `unhealthy: ${healthDetail}` : reason;
}

export interface ServiceBlock {
  readonly service: ServiceStatus;
  readonly enclave: string;
  readonly usage: ServiceUsage | undefined;
  /** Already rendered. */
  readonly lastLines: readonly string[];
}

/** One service at length. */
export function renderService(
  { service, enclave, usage, lastLines }: ServiceBlock,
  terminal: Terminal,
  nowMs: number,
): string {
  const { pid, user, restarts, notIsolated, startedAt } = service;
  const reason = reasonOf(service);
  const colour = COLOURS[judge(service)];
  const lines = [
    `${dotOf(service, terminal)} ${service.name} - enclave ${enclave}`,
    `     Active: ${terminal.colour(colour, describeState(service))}${startedAt === null ? "" : ` since ${renderSince(startedAt, nowMs)}`}`,
    ...(pid === null ? [] : [`   Main PID: ${pid}`]),
    `       User: ${user.name} (uid ${user.uid})`,
    `   Restarts: ${restarts}`,
    ...(reason === null ? [] : [`     Reason: ${reason}`]),
    ...renderUsage(usage),
    ...service.limits.map((limit) => `      Limit: ${renderLimit(limit)}`),
    `  Isolation: ${notIsolated === null ? "kept apart from the enclave and the other services" : `not isolated: it ${notIsolated}`}`,
    ...(lastLines.length === 0 ? [] : ["", ...lastLines]),
  ];
  return toPrintable(lines.join("\n"));
}

function renderSince(startedAt: number, nowMs: number): string {
  const time = new Date(startedAt);
  const text = Number.isNaN(time.getTime()) ? "?" : time.toISOString().replace("T", " ").slice(0, 19);
  return `${text} UTC; ${renderAge(nowMs - startedAt)} ago`;
}

function renderUsage(usage: ServiceUsage | undefined): string[] {
  if (usage === undefined) return [];
  const { cpuUsec, memoryBytes, pids } = usage;
  return [
    ...(memoryBytes === null ? [] : [`     Memory: ${renderBytes(memoryBytes)}`]),
    ...(pids === null ? [] : [`      Tasks: ${pids}`]),
    ...(cpuUsec === null ? [] : [`        CPU: ${renderDuration(cpuUsec / 1000)}`]),
  ];
}

function renderLimit({ name, value, enforced, why }: LimitStatus): string {
  return `${name} ${renderLimitValue(name, value)}${enforced ? "" : ` not enforced: ${why ?? "unknown"}`}`;
}

function renderLimitValue(name: LimitStatus["name"], value: number): string {
  switch (name) {
    case "memory":
    case "output":
      return renderBytes(value);
    case "cpu_time":
    case "run_time":
      return renderDuration(value);
    case "pids":
    case "cpus":
      return String(value);
  }
}
