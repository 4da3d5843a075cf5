/**
 * The walls around one service: its cgroup, its system call filter, its resource limits and its view of the machine.
 * They are made before the service runs and stay while it is started again and again; service-exec puts each of its
 * processes behind them.
 */
import { capabilityNumber } from "../wire/capabilities.ts";
import type { ResourceLimit, ServiceConfig } from "../wire/enclave-config.ts";
import type { RunCounters } from "./run-account.ts";

/** What a compartment needs of a cgroup. */
export interface CompartmentCgroup {
  /** Directories that a process joins. */
  readonly directories: readonly string[];
  readCounters(): Promise<RunCounters>;
  /** Ends every process in it. */
  killAll(): Promise<void>;
}

export interface Compartment {
  /** Options of service-exec (native/service-exec/request.c) besides identity and directory. */
  readonly options: readonly string[];
  readonly cgroup: CompartmentCgroup | undefined;
}

/** No walls, for machines that have none to give. */
export const OPEN_COMPARTMENT: Compartment = { options: [], cgroup: undefined };

export interface CompartmentParts {
  readonly cgroup: CompartmentCgroup | undefined;
  /** File of the system call filter. */
  readonly filter: string;
  /** The cgroup limits processes. Only where it does not is RLIMIT_NPROC set, which would refuse forks uncounted. */
  readonly countsPids: boolean;
}

/** Services die before the enclave's own processes when memory runs out. */
const OOM_SCORE = "500";

export function makeCompartment(config: ServiceConfig, parts: CompartmentParts): Compartment {
  const { cgroup, filter, countsPids } = parts;
  const numbers = config.capabilities.flatMap((name) => capabilityNumber(name) ?? []);
  const options = [
    ...(cgroup?.directories ?? []).flatMap((directory) => ["--cgroup", directory]),
    ...rlimitOptions(config, countsPids),
    ...numbers.flatMap((number) => ["--cap", String(number)]),
    "--oom-score",
    OOM_SCORE,
    "--confine",
    ...(config.nsm === true ? ["--nsm"] : []),
    "--seccomp",
    filter,
  ];
  return { options, cgroup };
}

/** A core file would hold the service's secrets, and memory is the only disk: none unless asked for. */
function rlimitOptions({ limits }: ServiceConfig, countsPids: boolean): string[] {
  const ulimits: Readonly<Record<string, ResourceLimit>> = {
    core: { soft: 0, hard: 0 },
    ...(limits.pids === undefined || countsPids ? {} : { nproc: { soft: limits.pids, hard: limits.pids } }),
    ...limits.ulimits,
  };
  const text = (value: number | null): string => (value === null ? "unlimited" : String(value));
  return Object.entries(ulimits).flatMap(([name, { soft, hard }]) => [
    "--rlimit",
    `${name}=${text(soft)}:${text(hard)}`,
  ]);
}
