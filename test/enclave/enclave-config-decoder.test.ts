import fc from "fast-check";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import type { EnclaveConfig, Healthcheck, HealthTest, ServiceConfig } from "../../wire/enclave-config.ts";
import { decodeEnclaveConfig, MAX_CONFIG_BYTES } from "../../wire/enclave-config-decoder.ts";
import { isKitError } from "./kit-error.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

function decode(value: unknown): EnclaveConfig {
  return decodeEnclaveConfig(Buffer.from(JSON.stringify(value)));
}

const text = fc.string({ maxLength: 20 }).filter((value) => !value.includes("\0"));
const port = fc.integer({ min: 1, max: 65_535 });
const healthTest: fc.Arbitrary<HealthTest> = fc.oneof(
  fc.record({ kind: fc.constant("exec" as const), command: fc.array(text, { minLength: 1, maxLength: 3 }) }),
  fc.record({ kind: fc.constant("http" as const), port, path: fc.constantFrom("/", "/health?x=1") }),
  fc.record({ kind: fc.constant("tcp" as const), port }),
);
const healthcheck: fc.Arbitrary<Healthcheck> = fc.record({
  test: healthTest,
  intervalMs: fc.integer({ min: 1, max: 60_000 }),
  timeoutMs: fc.integer({ min: 1, max: 60_000 }),
  retries: fc.integer({ min: 1, max: 100 }),
  startPeriodMs: fc.nat(60_000),
});
const serviceParts: fc.Arbitrary<Partial<ServiceConfig>> = fc.record(
  {
    command: fc.array(text, { minLength: 1, maxLength: 4 }),
    environment: fc.dictionary(fc.stringMatching(/^[A-Z_]{1,8}$/), text),
    restart: fc.constantFrom<ServiceConfig["restart"]>(
      { policy: "no" },
      { policy: "always" },
      { policy: "unless-stopped" },
      { policy: "on-failure" },
      { policy: "on-failure", maximumRetries: 4 },
    ),
    stopSignal: fc.constantFrom("SIGTERM", "SIGQUIT", "SIGUSR1"),
    healthcheck,
    limits: fc.record(
      {
        memoryBytes: fc.integer({ min: 1, max: 2 ** 40 }),
        pids: fc.integer({ min: 1, max: 4096 }),
        cpus: fc.constantFrom(0.01, 0.5, 2),
        outputBytes: fc.integer({ min: 1, max: 2 ** 40 }),
        ulimits: fc.constantFrom({}, { nofile: { soft: 1, hard: null } }, { core: { soft: 0, hard: 0 } }),
      },
      { requiredKeys: [] },
    ),
    capabilities: fc.constantFrom([], ["CAP_CHOWN"], ["CAP_CHOWN", "CAP_SYS_TIME"]),
  },
  { requiredKeys: [] },
);

test("what was encoded is decoded to the same value", () => {
  fc.assert(
    fc.property(
      fc.array(serviceParts, { maxLength: 4 }),
      fc.array(port, { maxLength: 4 }),
      (parts, ingressPorts) => {
        const services = parts.map((rest, index) =>
          shellService(`s${index}`, "true", {
            ...rest,
            dependsOn: index === 0 ? [] : [{ service: `s${index - 1}`, condition: "service_started" }],
          }),
        );
        const config = enclaveConfig(services, { ingressPorts, mode: "production", logs: { ship: false } });
        expect(decode(config)).toEqual(config);
      },
    ),
  );
});

test("any bytes are refused with E_ENCLAVE_CONFIG and nothing else", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((json) => Buffer.from(json)),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      expect(() => decodeEnclaveConfig(input)).toThrow(isKitError("E_ENCLAVE_CONFIG"));
    }),
    { numRuns: 500 },
  );
});

/** Every place of the value, as the path to it. */
function placesOf(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, item]) => placesOf(item, [...path, key]))];
}

function replaceAt(value: unknown, [key, ...rest]: readonly string[], change: unknown): unknown {
  if (key === undefined) return change;
  const copy = structuredClone(value) as Record<string, unknown>;
  copy[key] = replaceAt(copy[key], rest, change);
  return copy;
}

const COMPLETE = enclaveConfig(
  [
    shellService("a", "true", {
      environment: { A: "1" },
      restart: { policy: "on-failure", maximumRetries: 2 },
      healthcheck: {
        test: { kind: "tcp", port: 80 },
        intervalMs: 1,
        timeoutMs: 1,
        retries: 1,
        startPeriodMs: 0,
      },
    }),
    shellService("b", "true", { dependsOn: [{ service: "a", condition: "service_healthy" }] }),
  ],
  { ingressPorts: [80] },
);

/** Keys that say by null that there is none. */
const NULLABLE = ["clientCa", "lock"];

test("a wrong type at any place is refused", () => {
  const places = placesOf(COMPLETE);
  expect(places.length).toBeGreaterThan(50);
  for (const place of places) {
    for (const wrong of [null, 1.5, { unknown: 1 }, [[]]]) {
      if (wrong === null && NULLABLE.includes(String(place.at(-1)))) continue;
      const changed = replaceAt(COMPLETE, place, wrong);
      expect(() => decode(changed), `${place.join(".")} = ${JSON.stringify(wrong)}`).toThrow(KitError);
    }
  }
});

test("an unknown or a missing key at any place is refused", () => {
  for (const place of placesOf(COMPLETE)) {
    const parent = replaceAt(COMPLETE, [], COMPLETE);
    const target = place.reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], parent);
    if (typeof target !== "object" || target === null || Array.isArray(target)) continue;
    if (place.at(-1) === "environment") continue;
    expect(() => decode(replaceAt(COMPLETE, place, { ...target, odd: 1 }))).toThrow(KitError);
    for (const key of Object.keys(target)) {
      if (key === "healthcheck" || key === "maximumRetries") continue;
      const without = Object.fromEntries(Object.entries(target).filter(([name]) => name !== key));
      expect(() => decode(replaceAt(COMPLETE, place, without)), `${place.join(".")} without ${key}`).toThrow(
        KitError,
      );
    }
  }
});

const A = shellService("a", "true");
test.each<[string, unknown, RegExp]>([
  ["another version", { ...COMPLETE, version: 1 }, /version/],
  ["no mode", { ...COMPLETE, mode: "test" }, /mode: must be one of development, production/],
  ["the same name twice", enclaveConfig([A, A]), /name a is taken/],
  ["the gateway's name", enclaveConfig([{ ...A, name: "gateway" }]), /name gateway is taken/],
  [
    "a name with a slash",
    enclaveConfig([{ ...A, name: "../x" }]),
    /services\[0\]\.name: has a forbidden form/,
  ],
  ["an empty command", enclaveConfig([{ ...A, command: [] }]), /command: must name a program/],
  ["a NUL in an argument", enclaveConfig([{ ...A, command: ["a\0b"] }]), /NUL/],
  ["a variable name with =", enclaveConfig([{ ...A, environment: { "A=B": "" } }]), /no variable name/],
  ["no such signal", enclaveConfig([{ ...A, stopSignal: "SIGNOPE" }]), /stopSignal: is no signal/],
  [
    "retries of another policy",
    enclaveConfig([{ ...A, restart: { policy: "no", maximumRetries: 1 } as never }]),
    /only on-failure/,
  ],
  [
    "port 0",
    enclaveConfig([], { ingressPorts: [0] }),
    /ingressPorts\[0\]: must be an integer from 1 to 65535/,
  ],
  [
    "an unknown dependency",
    enclaveConfig([{ ...A, dependsOn: [{ service: "z", condition: "service_started" }] }]),
    /depends on unknown z/,
  ],
  [
    "itself as a dependency",
    enclaveConfig([{ ...A, dependsOn: [{ service: "a", condition: "service_started" }] }]),
    /cycle/,
  ],
  [
    "health of a service without a check",
    enclaveConfig([A, { ...A, name: "b", dependsOn: [{ service: "a", condition: "service_healthy" }] }]),
    /which has no check/,
  ],
  [
    "a path with a space",
    replaceAt(COMPLETE, ["services", "0", "healthcheck", "test"], { kind: "http", port: 1, path: "/a b" }),
    /path/,
  ],
  [
    "keys of another kind of test",
    replaceAt(COMPLETE, ["services", "0", "healthcheck", "test"], { kind: "tcp", port: 1, path: "/" }),
    /unknown key "path"/,
  ],
])("refuses %s", (_, value, message) => {
  expect(() => decode(value)).toThrow(isKitError("E_ENCLAVE_CONFIG", message));
});

test("refuses more than 1 MiB without parsing it", () => {
  expect(() => decodeEnclaveConfig(Buffer.alloc(MAX_CONFIG_BYTES + 1, "["))).toThrow(
    isKitError("E_ENCLAVE_CONFIG", /more than 1048576 bytes/),
  );
});
