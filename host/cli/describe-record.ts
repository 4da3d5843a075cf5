import { formatPortMapping } from "../config/port-mapping.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { renderAge, renderDuration, renderTable } from "../../core/text-table.ts";

/** What the backend keeps from this host. Only the hardware keeps anything. */
function protectionOf({ backend, debug }: EnclaveRecord): "hypervisor" | "none" {
  return backend === "nitro" && !debug ? "hypervisor" : "none";
}

/** What `--json` prints: the record without what is only for us. */
export function toStatusJson(record: EnclaveRecord): Record<string, unknown> {
  const { version: _version, runner, ...rest } = record;
  return { ...rest, protection: protectionOf(record), runner: { pid: runner.pid } };
}

/** With what runs its instructions, where that is a question. */
export function describeBackend({ backend, accelerator }: EnclaveRecord): string {
  return accelerator === null ? backend : `${backend} (${accelerator.toUpperCase()})`;
}

function describePlace({ hostAddress, hostPort }: Omit<PortSpec, "servicePort">): string {
  return `${hostAddress.includes(":") ? `[${hostAddress}]` : hostAddress}:${hostPort}`;
}

/** `http://`-less address that a client can use. */
export function describePort(port: EnclaveRecord["ports"][number]): string {
  return formatPortMapping(port).replace(/:(\d+)$/, " -> $1");
}

export function describeStatus(record: EnclaveRecord, nowMs: number): string {
  const lines = [
    `${record.name}: ${record.state}${record.reason === null ? "" : ` (${record.reason})`}`,
    `  backend      ${describeBackend(record)}, ${record.mode}`,
    `  attestation  ${describeAttestation(record)}`,
    `  protection   ${describeProtection(record)}`,
    ...describeIsolation(record).map((line) => `  isolation    ${line}`),
    ...describeBrokenLimits(record).map((line) => `  limits       ${line}`),
    ...(record.overridden ? ["  services     overridden by a reload; the image has others"] : []),
    `  image        ${record.image.slice(0, 16)}  from ${record.file}`,
    `  age          ${renderAge(nowMs - record.createdAt)}, runner ${record.runner.pid ?? "-"}`,
    ...(record.attestationPort === null
      ? []
      : [`  attest at    https://${describePlace(record.attestationPort)}`]),
    ...record.ports.map((port) => `  port         ${describePort(port)}`),
  ];
  const rows = record.services.map((service) => [
    `  ${service.name}`,
    service.state,
    service.health,
    `pid ${service.pid ?? "-"}`,
    `restarts ${service.restarts}`,
    service.reason ?? "",
  ]);
  return rows.length === 0 ? lines.join("\n") : `${lines.join("\n")}\n${renderTable(rows)}`;
}

/** Told by the enclave: `pipeline attest` is what proves something. */
function describeAttestation({ attestation, attestationServer: server }: EnclaveRecord): string {
  if (server === null) return attestation;
  const reason = server.reason === null ? "" : `: ${server.reason.code}: ${server.reason.message}`;
  const offset = server.clockOffsetMs === null ? "" : `, clock ${renderOffset(server.clockOffsetMs)}`;
  const jumps = server.clockJumps === 0 ? "" : `, jumped ${server.clockJumps} times`;
  return `${attestation}, server ${server.state}${reason}${offset}${jumps}`;
}

function renderOffset(offsetMs: number): string {
  return `${offsetMs < 0 ? "-" : "+"}${renderDuration(Math.abs(offsetMs))} against the documents`;
}

function describeProtection(record: EnclaveRecord): string {
  if (protectionOf(record) === "hypervisor") return "by the Nitro hypervisor";
  const why = record.debug
    ? "debug mode shows everything"
    : `the ${record.backend} backend is for development`;
  return `none against this host: ${why}`;
}

function describeIsolation({ isolated, services }: EnclaveRecord): string[] {
  if (isolated === false) return ["not isolated: all services share one user id"];
  return services.flatMap(({ name, notIsolated }) =>
    notIsolated === null ? [] : [`service ${name} is not isolated: it ${notIsolated}`],
  );
}

/** Limits that hold need no words. */
function describeBrokenLimits({ limits, services }: EnclaveRecord): string[] {
  const lines = (whose: string, list: EnclaveRecord["limits"]): string[] =>
    list
      .filter((limit) => !limit.enforced)
      .map(({ name, why }) => `${name} of ${whose} not enforced: ${why ?? "unknown"}`);
  return [
    ...lines("the enclave", limits),
    ...services.flatMap((service) => lines(`service ${service.name}`, service.limits)),
  ];
}
