/** Tables of what enclaves use. Rates come from two samples. */
import { toPrintable } from "../core/printable.ts";
import { renderBytes, renderTable } from "../core/text-table.ts";
import type { EnclaveStats, ServiceUsage, Usage } from "../wire/control.ts";

export interface UsageSample {
  readonly enclave: string;
  readonly stats: EnclaveStats;
  /** The sample before; absent: rates are not known yet. */
  readonly previous: EnclaveStats | undefined;
}

const HEAD = ["ENCLAVE", "SERVICE", "CPU", "MEMORY", "LIMIT", "MEM%", "PIDS", "OUTPUT"];

/** A row for each machine and one for each of its services. */
export function renderUsageTable(samples: readonly UsageSample[]): string {
  return toPrintable(renderTable([HEAD, ...samples.flatMap(rowsOf)]));
}

function rowsOf({ enclave, stats, previous }: UsageSample): string[][] {
  const elapsedMs = previous === undefined ? 0 : stats.time - previous.time;
  const machine = [enclave, "-", ...cellsOf(stats.machine, previous?.machine, elapsedMs), "-"];
  const services = stats.services.map((service) => {
    const before = previous?.services.find((one) => one.name === service.name);
    return [
      enclave,
      service.name,
      ...cellsOf(service, before, elapsedMs),
      renderOutput(service, before, elapsedMs),
    ];
  });
  return [machine, ...services];
}

function cellsOf(usage: Usage, before: Usage | undefined, elapsedMs: number): string[] {
  const { memoryBytes, memoryLimitBytes, pids, pidsLimit } = usage;
  const hasShare = memoryBytes !== null && memoryLimitBytes !== null && memoryLimitBytes > 0;
  return [
    renderCpu(usage.cpuUsec, before?.cpuUsec, elapsedMs),
    memoryBytes === null ? "-" : renderBytes(memoryBytes),
    memoryLimitBytes === null ? "-" : renderBytes(memoryLimitBytes),
    hasShare ? `${((100 * memoryBytes) / memoryLimitBytes).toFixed(1)}%` : "-",
    pids === null ? "-" : `${pids}${pidsLimit === null ? "" : `/${pidsLimit}`}`,
  ];
}

/** Of one CPU; a service that was started again counts from its start. */
function renderCpu(usec: number | null, before: number | null | undefined, elapsedMs: number): string {
  if (usec === null || before === null || before === undefined || elapsedMs <= 0) return "-";
  const used = usec < before ? usec : usec - before;
  return `${(used / elapsedMs / 10).toFixed(1)}%`;
}

function renderOutput(service: ServiceUsage, before: ServiceUsage | undefined, elapsedMs: number): string {
  const total = renderBytes(service.outputBytes);
  const bytes = service.outputBytes - (before?.outputBytes ?? service.outputBytes);
  return elapsedMs <= 0 || bytes <= 0 ? total : `${total} (${renderBytes((bytes * 1000) / elapsedMs)}/s)`;
}
