/** Strict reader of a service's limits (wire/enclave-config.ts). */
import { RESOURCE_LIMITS } from "./capabilities.ts";
import type { ResourceLimit, ServiceLimits } from "./enclave-config.ts";
import type { Refuse, StrictObject } from "./strict-object.ts";

export const LIMIT_KEYS = ["memoryBytes", "pids", "cpus", "cpuTimeMs", "runTimeMs", "outputBytes", "ulimits"];

const COUNT = { minimum: 1, maximum: Number.MAX_SAFE_INTEGER };
const MAX_CPUS = 1024;

export function readLimits(object: StrictObject, refuse: Refuse): ServiceLimits {
  const count = (key: "memoryBytes" | "pids" | "cpuTimeMs" | "runTimeMs" | "outputBytes"): ServiceLimits =>
    object.has(key) ? { [key]: object.integer(key, COUNT) } : {};
  return {
    ...count("memoryBytes"),
    ...count("pids"),
    ...(object.has("cpus") ? { cpus: readCpus(object, refuse) } : {}),
    ...count("cpuTimeMs"),
    ...count("runTimeMs"),
    ...count("outputBytes"),
    ...(object.has("ulimits") ? { ulimits: readUlimits(object, refuse) } : {}),
  };
}

function readCpus(object: StrictObject, refuse: Refuse): number {
  const value = object.raw("cpus");
  if (typeof value === "number" && value >= 0.01 && value <= MAX_CPUS) return value;
  throw refuse(`${object.place("cpus")}: must be a number from 0.01 to ${MAX_CPUS}`);
}

function readUlimits(object: StrictObject, refuse: Refuse): Readonly<Record<string, ResourceLimit>> {
  const ulimits = object.object("ulimits", RESOURCE_LIMITS);
  const known = RESOURCE_LIMITS.filter((name) => ulimits.has(name));
  return Object.fromEntries(known.map((name) => [name, readLimit(ulimits, name, refuse)]));
}

function readLimit(ulimits: StrictObject, name: string, refuse: Refuse): ResourceLimit {
  const limit = ulimits.object(name, ["soft", "hard"]);
  const read = (key: "soft" | "hard"): number | null =>
    limit.raw(key) === null ? null : limit.integer(key, { minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
  const [soft, hard] = [read("soft"), read("hard")];
  if (hard !== null && (soft === null || soft > hard))
    throw refuse(`${ulimits.place(name)}: soft is above hard`);
  return { soft, hard };
}
