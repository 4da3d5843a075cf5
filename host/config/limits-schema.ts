/** Limits and capabilities of a service: compose's words, and our own for what compose has none. */
import { z } from "zod";

import { CAPABILITIES, RESOURCE_LIMITS } from "../../wire/capabilities.ts";
import type { ResourceLimit, ServiceLimits } from "../../wire/enclave-config.ts";
import { Duration } from "./duration-schema.ts";
import { parseBytes } from "../../core/quantities.ts";

const MIB = 1024 ** 2;
const MIN_MEMORY_BYTES = 4 * MIB;

/** `512MiB`, `1GiB` or a number of bytes. */
export const Bytes = z.union([z.string(), z.number().int().positive()]).transform((value, context) => {
  const bytes = typeof value === "number" ? value : parseBytes(value);
  if (bytes !== undefined) return bytes;
  context.addIssue({ code: "custom", message: `${JSON.stringify(value)} is no size: write 512MiB or 1GiB` });
  return z.NEVER;
});

const Cpus = z
  .union([z.number(), z.string().regex(/^\d+(?:\.\d+)?$/, "write a number such as 0.5")])
  .transform(Number)
  .pipe(z.number().min(0.01).max(1024));

/** setrlimit has no way to say "unlimited" but -1 in compose's files. */
const LimitValue = z
  .number()
  .int()
  .min(-1)
  .transform((value) => (value === -1 ? null : value));
const Ulimit = z
  .union([
    LimitValue.transform((value): ResourceLimit => ({ soft: value, hard: value })),
    z.strictObject({ soft: LimitValue, hard: LimitValue }),
  ])
  .refine(
    ({ soft, hard }) => hard === null || (soft !== null && soft <= hard),
    "the soft limit is above the hard one",
  );

const Capability = z.string().transform((text, context) => {
  const name = text.startsWith("CAP_") ? text : `CAP_${text}`;
  const known = CAPABILITIES.find((one) => one === name);
  if (known !== undefined) return known;
  const message = `${JSON.stringify(text)} is no capability: write for example NET_BIND_SERVICE`;
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

const Positive = Duration.pipe(z.number().min(1, "must be longer than nothing"));

export const LIMIT_FIELDS = {
  netlink: z.boolean().default(false),
  mem_limit: Bytes.refine((bytes) => bytes >= MIN_MEMORY_BYTES, "a service needs at least 4MiB").optional(),
  pids_limit: z.number().int().min(1).max(4_194_304).optional(),
  cpus: Cpus.optional(),
  cpu_time_limit: Positive.optional(),
  run_time_limit: Positive.optional(),
  output_limit: Bytes.optional(),
  ulimits: z.partialRecord(z.enum(RESOURCE_LIMITS), Ulimit).optional(),
  cap_add: z
    .array(Capability)
    .max(CAPABILITIES.length)
    .transform((names) => [...new Set(names)].sort())
    .default([]),
};

interface LimitKeys {
  readonly mem_limit?: number | undefined;
  readonly pids_limit?: number | undefined;
  readonly cpus?: number | undefined;
  readonly cpu_time_limit?: number | undefined;
  readonly run_time_limit?: number | undefined;
  readonly output_limit?: number | undefined;
  readonly ulimits?: Readonly<Partial<Record<string, ResourceLimit>>> | undefined;
}

export function toLimits(keys: LimitKeys): ServiceLimits {
  const ulimits = Object.entries(keys.ulimits ?? {}).flatMap(([name, limit]) =>
    limit === undefined ? [] : [[name, limit] as const],
  );
  return {
    ...given("memoryBytes", keys.mem_limit),
    ...given("pids", keys.pids_limit),
    ...given("cpus", keys.cpus),
    ...given("cpuTimeMs", keys.cpu_time_limit),
    ...given("runTimeMs", keys.run_time_limit),
    ...given("outputBytes", keys.output_limit),
    ...(ulimits.length === 0 ? {} : { ulimits: Object.fromEntries(ulimits) }),
  };
}

function given(name: Exclude<keyof ServiceLimits, "ulimits">, value: number | undefined): ServiceLimits {
  return value === undefined ? {} : { [name]: value };
}
