/**
 * Strict reader of the measured configuration (wire/enclave-config.ts). The image is measured, so this guards against
 * another release and against faults of the build, and it keeps a schema library out of the supervisor.
 */
import { constants } from "node:os";

import { KitError } from "../core/errors.ts";
import {
  type BuildIdentity,
  CONFIG_VERSION,
  type EnclaveConfig,
  type Healthcheck,
  type HealthTest,
  type RestartPolicy,
  type ServiceConfig,
  type ServiceUser,
} from "./enclave-config.ts";
import { decodeEgressConfig } from "./egress-policy.ts";
import { CAPABILITIES, capabilityNumber } from "./capabilities.ts";
import { OWN_PROCESSES } from "./own-processes.ts";
import { LIMIT_KEYS, readLimits } from "./service-limits.ts";
import { StrictObject } from "./strict-object.ts";

export const MAX_CONFIG_BYTES = 1024 * 1024;

const MAX_SERVICES = 256;
const MAX_ITEMS = 1024;
const MAX_TEXT = 128 * 1024;
const MAX_PEM = 64 * 1024;
const NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const ABSOLUTE = /^\//;
const ID = { minimum: 0, maximum: 4_294_967_294 };
const PORT = { minimum: 1, maximum: 65_535 };
const DURATION = { minimum: 0, maximum: 365 * 24 * 3_600_000 };

const SERVICE_KEYS = [
  "name",
  "command",
  "environment",
  "workingDir",
  "user",
  "dependsOn",
  "restart",
  "stopSignal",
  "stopGracePeriodMs",
  "healthcheck",
  "limits",
  "capabilities",
  "netlink",
  "nsm",
];
const CONFIG_KEYS = [
  "version",
  "name",
  "mode",
  "attestation",
  "services",
  "ingressPorts",
  "egress",
  "logs",
  "clientCa",
  "build",
  "singleUser",
];

/** @throws E_ENCLAVE_CONFIG naming the place and what is wrong with it. */
export function decodeEnclaveConfig(bytes: Uint8Array): EnclaveConfig {
  const object = new StrictObject(parseJson(bytes), "config", CONFIG_KEYS, refuse);
  object.integer("version", { minimum: CONFIG_VERSION, maximum: CONFIG_VERSION });
  const config: EnclaveConfig = {
    version: CONFIG_VERSION,
    name: object.text("name", { maximum: 64 }),
    mode: object.word("mode", ["development", "production"]),
    attestation: object.word("attestation", ["nitro", "development"]),
    services: object.list("services", MAX_SERVICES, readService),
    ingressPorts: object.integers("ingressPorts", MAX_ITEMS, PORT),
    egress: decodeEgressConfig(object.raw("egress"), "config.egress", refuse),
    logs: { ship: object.object("logs", ["ship"]).boolean("ship") },
    clientCa: readClientCa(object),
    build: readBuild(object.object("build", ["toolkit", "lock"])),
    singleUser: object.boolean("singleUser"),
  };
  checkNames(config.services);
  checkDependencies(config.services);
  return config;
}

/**
 * The services of a reload, checked as those of a whole configuration.
 * @throws E_ENCLAVE_CONFIG
 */
export function decodeServices(values: readonly unknown[]): readonly ServiceConfig[] {
  if (values.length > MAX_SERVICES) throw refuse(`config.services: has more than ${MAX_SERVICES} items`);
  const services = values.map((value, index) => readService(value, `config.services[${index}]`));
  checkNames(services);
  checkDependencies(services);
  return services;
}

function refuse(message: string): KitError {
  return new KitError("E_ENCLAVE_CONFIG", message);
}

function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length > MAX_CONFIG_BYTES) throw refuse(`config: has more than ${MAX_CONFIG_BYTES} bytes`);
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return value;
  } catch (error) {
    throw new KitError("E_ENCLAVE_CONFIG", "config: is not JSON in UTF-8", { cause: error });
  }
}

function readService(value: unknown, place: string): ServiceConfig {
  const object = new StrictObject(value, place, SERVICE_KEYS, refuse);
  const command = object.texts("command", MAX_ITEMS, { maximum: MAX_TEXT });
  if (command.length === 0) throw refuse(`${place}.command: must name a program`);
  const stopSignal = object.text("stopSignal", { maximum: 16 });
  if (!Object.hasOwn(constants.signals, stopSignal)) throw refuse(`${place}.stopSignal: is no signal`);
  return {
    name: object.text("name", { pattern: NAME }),
    command,
    environment: readEnvironment(object.raw("environment"), `${place}.environment`),
    workingDir: object.text("workingDir", { pattern: ABSOLUTE }),
    user: readUser(object.object("user", ["name", "uid", "gid", "groups", "home", "assigned"])),
    dependsOn: object.list("dependsOn", MAX_SERVICES, readDependency),
    restart: readRestart(object.object("restart", ["policy", "maximumRetries"]), `${place}.restart`),
    stopSignal,
    stopGracePeriodMs: object.integer("stopGracePeriodMs", DURATION),
    ...(object.has("healthcheck")
      ? { healthcheck: readHealthcheck(object.raw("healthcheck"), `${place}.healthcheck`) }
      : {}),
    limits: readLimits(object.object("limits", LIMIT_KEYS), refuse),
    capabilities: object.list("capabilities", CAPABILITIES.length, readCapability),
    ...(object.has("netlink") && object.boolean("netlink") ? { netlink: true as const } : {}),
    ...(object.has("nsm") && object.boolean("nsm") ? { nsm: true as const } : {}),
  };
}

/** PEM is read where it is used; here it is text of a bounded length. */
function readClientCa(object: StrictObject): string | null {
  return object.raw("clientCa") === null ? null : object.text("clientCa", { maximum: MAX_PEM });
}

function readBuild(object: StrictObject): BuildIdentity {
  const lock = object.raw("lock") === null ? null : object.text("lock", { pattern: /^[0-9a-f]{64}$/ });
  return { toolkit: object.text("toolkit", { maximum: 64 }), lock };
}

function readCapability(value: unknown, place: string): string {
  if (typeof value === "string" && capabilityNumber(value) !== undefined) return value;
  throw refuse(`${place}: is no capability`);
}

function readEnvironment(value: unknown, place: string): Record<string, string> {
  const keys = typeof value === "object" && value !== null ? Object.keys(value) : [];
  if (keys.length > MAX_ITEMS) throw refuse(`${place}: has more than ${MAX_ITEMS} variables`);
  const object = new StrictObject(value, place, keys, refuse);
  const wrong = keys.find((key) => key === "" || key.includes("=") || key.includes("\0"));
  if (wrong !== undefined)
    throw refuse(`${place}: ${JSON.stringify(wrong.slice(0, 64))} is no variable name`);
  return Object.fromEntries(keys.map((key) => [key, object.text(key, { maximum: MAX_TEXT })]));
}

function readUser(object: StrictObject): ServiceUser {
  return {
    name: object.text("name", { maximum: 256 }),
    uid: object.integer("uid", ID),
    gid: object.integer("gid", ID),
    groups: object.integers("groups", 64, ID),
    home: object.text("home", { pattern: ABSOLUTE }),
    ...(object.has("assigned") && object.boolean("assigned") ? { assigned: true as const } : {}),
  };
}

function readDependency(value: unknown, place: string): ServiceConfig["dependsOn"][number] {
  const object = new StrictObject(value, place, ["service", "condition"], refuse);
  const conditions = ["service_started", "service_healthy", "service_completed_successfully"] as const;
  return {
    service: object.text("service", { pattern: NAME }),
    condition: object.word("condition", conditions),
  };
}

function readRestart(object: StrictObject, place: string): RestartPolicy {
  const policy = object.word("policy", ["no", "always", "on-failure", "unless-stopped"]);
  if (!object.has("maximumRetries")) return { policy };
  if (policy !== "on-failure") throw refuse(`${place}.maximumRetries: only on-failure may have it`);
  return { policy, maximumRetries: object.integer("maximumRetries", { minimum: 1, maximum: 1_000_000 }) };
}

function readHealthcheck(value: unknown, place: string): Healthcheck {
  const keys = ["test", "intervalMs", "timeoutMs", "retries", "startPeriodMs"];
  const object = new StrictObject(value, place, keys, refuse);
  return {
    test: readHealthTest(object.raw("test"), `${place}.test`),
    intervalMs: object.integer("intervalMs", { ...DURATION, minimum: 1 }),
    timeoutMs: object.integer("timeoutMs", { ...DURATION, minimum: 1 }),
    retries: object.integer("retries", { minimum: 1, maximum: 1000 }),
    startPeriodMs: object.integer("startPeriodMs", DURATION),
  };
}

function readHealthTest(value: unknown, place: string): HealthTest {
  const object = new StrictObject(value, place, ["kind", "command", "port", "path"], refuse);
  const kind = object.word("kind", ["exec", "http", "tcp"]);
  const expected = { exec: ["command"], http: ["port", "path"], tcp: ["port"] }[kind];
  const exact = new StrictObject(value, place, ["kind", ...expected], refuse);
  if (kind === "tcp") return { kind, port: exact.integer("port", PORT) };
  if (kind === "http") {
    const path = exact.text("path", { pattern: /^\/[\x21-\x7e]*$/ });
    return { kind, port: exact.integer("port", PORT), path };
  }
  const command = exact.texts("command", MAX_ITEMS, { maximum: MAX_TEXT });
  if (command.length === 0) throw refuse(`${place}.command: must name a program`);
  return { kind, command };
}

function checkNames(services: readonly ServiceConfig[]): void {
  const seen = new Set<string>(OWN_PROCESSES);
  for (const { name } of services) {
    if (seen.has(name)) throw refuse(`config.services: the name ${name} is taken`);
    seen.add(name);
  }
}

/** Unknown names and cycles would make services wait for ever. */
function checkDependencies(services: readonly ServiceConfig[]): void {
  const byName = new Map(services.map((service) => [service.name, service]));
  for (const service of services) {
    for (const { service: name, condition } of service.dependsOn) {
      const target = byName.get(name);
      if (target === undefined) throw refuse(`config.services: ${service.name} depends on unknown ${name}`);
      if (condition === "service_healthy" && target.healthcheck === undefined) {
        throw refuse(`config.services: ${service.name} waits for the health of ${name}, which has no check`);
      }
    }
  }
  const settled = new Set<string>();
  for (let before = -1; before !== settled.size;) {
    before = settled.size;
    for (const { name, dependsOn } of services) {
      if (dependsOn.every((edge) => settled.has(edge.service))) settled.add(name);
    }
  }
  if (settled.size !== services.length) throw refuse("config.services: depends_on forms a cycle");
}
