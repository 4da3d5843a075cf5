/** The `services:` part of enclave.yaml: compose's words, checked and turned into ServiceSpec's value types. */
import { constants } from "node:os";
import { z } from "zod";

import type { Healthcheck, HealthTest, RestartPolicy } from "../../wire/enclave-config.ts";
import { OWN_PROCESSES } from "../../wire/own-processes.ts";
import { LIMIT_FIELDS } from "./limits-schema.ts";
import { Duration } from "./duration-schema.ts";

const MAX_ARGUMENTS = 256;

/** Names under which the output of our own processes is shown. */
const RESERVED_NAMES: readonly string[] = ["console", "init", "supervisor", ...OWN_PROCESSES];

export const ServiceName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_-]{0,31}$/,
    "a service name has 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit",
  )
  .refine((name) => !RESERVED_NAMES.includes(name), "the name is taken by a part of the enclave");

const noNul = (text: string): boolean => !text.includes("\0");
const Text = z.string().refine(noNul, "must not contain a NUL character");
export const AbsolutePath = Text.regex(
  /^\/(?!.*(?:^|\/)\.\.(?:\/|$))/,
  "write an absolute path without ..",
).max(4096);

const Arguments = z
  .array(z.union([Text, z.number()]).transform(String), {
    error: "write a list, for example [node, /app/server.js]; there is no shell that would split a string",
  })
  .min(1, "must name a program")
  .max(MAX_ARGUMENTS);

const Scalar = z.union([Text, z.number(), z.boolean()], {
  error: "must be a string, number or boolean (nothing is taken from the host's environment)",
});
const VariableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "is no name of an environment variable");
const EnvironmentList = z
  .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*=/, "write NAME=VALUE"))
  .transform((list) => Object.fromEntries(list.map((item) => splitOnce(item, "="))));
const Environment = z.union([z.record(VariableName, Scalar.transform(String)), EnvironmentList], {
  error: "write a map of NAME: value, or a list of NAME=value",
});

const Restart = z.union([z.string(), z.boolean()]).transform((value, context): RestartPolicy => {
  const policy = parseRestart(String(value));
  if (policy !== undefined) return policy;
  context.addIssue({
    code: "custom",
    message: `${JSON.stringify(value)} is none of no, always, on-failure, on-failure:N, unless-stopped`,
  });
  return z.NEVER;
});

function parseRestart(value: string): RestartPolicy | undefined {
  if (value === "no" || value === "always" || value === "unless-stopped") return { policy: value };
  const match = /^on-failure(?::([1-9][0-9]{0,5}))?$/.exec(value);
  if (match === null) return undefined;
  return match[1] === undefined
    ? { policy: "on-failure" }
    : { policy: "on-failure", maximumRetries: Number(match[1]) };
}

const Signal = z.string().transform((name, context) => {
  const full = name.startsWith("SIG") ? name : `SIG${name}`;
  if (Object.hasOwn(constants.signals, full)) return full;
  context.addIssue({ code: "custom", message: `${JSON.stringify(name)} is no signal of Linux` });
  return z.NEVER;
});

const Condition = z.enum(["service_started", "service_healthy", "service_completed_successfully"]);
const DependsOn = z.union(
  [
    z
      .array(ServiceName)
      .transform((names) => names.map((service) => ({ service, condition: "service_started" as const }))),
    z
      .record(ServiceName, z.strictObject({ condition: Condition }))
      .transform((map) => Object.entries(map).map(([service, { condition }]) => ({ service, condition }))),
  ],
  { error: "write a list of services, or a map of service: { condition: service_healthy }" },
);

const ExecTest = z.union([Text, z.array(Text).min(1)]).transform((value, context): HealthTest | "none" => {
  if (typeof value === "string") return { kind: "exec", command: ["/bin/sh", "-c", value] };
  const [form, ...rest] = value;
  if (form === "NONE" && rest.length === 0) return "none";
  if (form === "CMD" && rest.length > 0) return { kind: "exec", command: rest };
  if (form === "CMD-SHELL" && rest.length === 1)
    return { kind: "exec", command: ["/bin/sh", "-c", rest[0] ?? ""] };
  context.addIssue({ code: "custom", message: "write [CMD, program, ...], [CMD-SHELL, text] or [NONE]" });
  return z.NEVER;
});

const Port = z.number().int().min(1).max(65_535);
const HttpTest = z.string().transform((text, context): HealthTest => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const local = url?.protocol === "http:" && ["127.0.0.1", "localhost"].includes(url.hostname);
  if (url !== undefined && local)
    return { kind: "http", port: Number(url.port || 80), path: url.pathname + url.search };
  context.addIssue({ code: "custom", message: "write http://127.0.0.1:PORT/PATH" });
  return z.NEVER;
});

export const HealthcheckSchema = z
  .strictObject({
    test: ExecTest.optional(),
    http: HttpTest.optional(),
    tcp: Port.optional(),
    interval: Duration.default(5_000),
    timeout: Duration.default(5_000),
    retries: z.number().int().min(1).max(100).default(3),
    start_period: Duration.default(0),
    disable: z.boolean().optional(),
  })
  .transform((value, context): Healthcheck | undefined => {
    const tests: (HealthTest | "none")[] = [];
    if (value.test !== undefined) tests.push(value.test);
    if (value.http !== undefined) tests.push(value.http);
    if (value.tcp !== undefined) tests.push({ kind: "tcp", port: value.tcp });
    const [test] = tests;
    if (value.disable === true || test === "none") return undefined;
    if (test === undefined || tests.length !== 1) {
      context.addIssue({ code: "custom", message: "give exactly one of test, http and tcp" });
      return z.NEVER;
    }
    return {
      test,
      intervalMs: Math.max(10, value.interval),
      timeoutMs: Math.max(10, value.timeout),
      retries: value.retries,
      startPeriodMs: value.start_period,
    };
  });

export const ServiceSchema = z.strictObject({
  entrypoint: Arguments.optional(),
  command: Arguments.optional(),
  environment: Environment.default({}),
  working_dir: AbsolutePath.optional(),
  user: z
    .union([Text.min(1), z.number().int().min(0)])
    .transform(String)
    .optional(),
  depends_on: DependsOn.default([]),
  restart: Restart.default({ policy: "no" }),
  stop_signal: Signal.default("SIGTERM"),
  stop_grace_period: Duration.default(10_000),
  healthcheck: HealthcheckSchema.optional(),
  nsm: z.boolean().default(false),
  ...LIMIT_FIELDS,
});

function splitOnce(text: string, separator: string): [string, string] {
  const index = text.indexOf(separator);
  return [text.slice(0, index), text.slice(index + separator.length)];
}
