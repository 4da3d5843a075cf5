/** The measured configuration of a spec, once the image's users and defaults are known. */
import { KitError } from "../../core/errors.ts";
import type { ImageFacts } from "../../rbuilds/image-facts.ts";
import {
  type BuildIdentity,
  CONFIG_VERSION,
  type EnclaveConfig,
  type ServiceConfig,
  type ServiceUser,
} from "../../wire/enclave-config.ts";
import { describeSharing } from "../../wire/isolation.ts";
import { NSM_GROUP, RUNTIME } from "../../wire/runtime-layout.ts";
import { assignUsers } from "./assigned-user.ts";
import type { EnclaveSpec, ServiceSpec } from "../config/enclave-spec.ts";

/** Where programs without a slash are looked up unless the image or the service says otherwise. */
const DEFAULT_PATH = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${RUNTIME.binaries}`;

/** As the USER of an image, with or without a group. */
const ROOT = /^(?:root|0+)(?::.*)?$/;

export async function toEnclaveConfig(
  spec: EnclaveSpec,
  facts: ImageFacts,
  build: BuildIdentity,
): Promise<EnclaveConfig> {
  const specs = spec.services.length > 0 ? spec.services : [defaultService(spec.name)];
  const ports = new Set(spec.ports.map((port) => port.servicePort));
  const userless = specs.filter((service) => userOf(service, facts) === undefined);
  const assigned = assignUsers(userless.map((service) => service.name));
  const services = await Promise.all(
    specs.map(async (service) =>
      toServiceConfig(service, facts, await resolveUser(service, facts, assigned)),
    ),
  );
  if (spec.mode === "production") assertOwnUsers(services);
  return {
    version: CONFIG_VERSION,
    name: spec.name,
    mode: spec.mode,
    attestation: spec.attestation,
    services,
    ingressPorts: [...ports].sort((a, b) => a - b),
    egress: spec.egress,
    logs: spec.logs,
    clientCa: spec.clientCa,
    build,
    singleUser: spec.singleUser,
  };
}

/** What the YAML or the image names; an image that says root says nothing about whom the service should be. */
function userOf(service: ServiceSpec, { defaults }: ImageFacts): string | undefined {
  if (service.user !== undefined) return service.user;
  return defaults.user === undefined || ROOT.test(defaults.user) ? undefined : defaults.user;
}

async function resolveUser(
  service: ServiceSpec,
  facts: ImageFacts,
  assigned: ReadonlyMap<string, ServiceUser>,
): Promise<ServiceUser> {
  return assigned.get(service.name) ?? (await facts.resolveUser(userOf(service, facts) ?? "0"));
}

/** @throws E_CONFIG_ISOLATION where services could reach the enclave or each other. */
function assertOwnUsers(services: readonly ServiceConfig[]): void {
  for (const service of services) {
    const why = describeSharing(service, services);
    if (why !== null) throw new KitError("E_CONFIG_ISOLATION", `service ${service.name} ${why}`);
  }
}

/** An OCI image without `services:` is one service that runs what the image says. */
function defaultService(name: string): ServiceSpec {
  return {
    name,
    environment: {},
    dependsOn: [],
    restart: { policy: "no" },
    stopSignal: "SIGTERM",
    stopGracePeriodMs: 10_000,
    limits: {},
    capabilities: [],
    netlink: false,
    nsm: false,
  };
}

function toServiceConfig(service: ServiceSpec, facts: ImageFacts, user: ServiceUser): ServiceConfig {
  return {
    name: service.name,
    command: commandOf(service, facts),
    environment: { PATH: DEFAULT_PATH, ...facts.defaults.env, ...service.environment },
    workingDir: service.workingDir ?? facts.defaults.workingDir ?? "/",
    user: service.nsm ? { ...user, groups: [...user.groups, NSM_GROUP].sort((a, b) => a - b) } : user,
    dependsOn: service.dependsOn,
    restart: service.restart,
    stopSignal: service.stopSignal,
    stopGracePeriodMs: service.stopGracePeriodMs,
    ...(service.healthcheck === undefined ? {} : { healthcheck: service.healthcheck }),
    limits: service.limits,
    capabilities: service.capabilities,
    ...(service.netlink ? { netlink: true } : {}),
    ...(service.nsm ? { nsm: true } : {}),
  };
}

/** As in compose: command replaces CMD, entrypoint replaces ENTRYPOINT and drops CMD. */
function commandOf(service: ServiceSpec, facts: ImageFacts): readonly string[] {
  const { entrypoint, cmd } = facts.defaults;
  const head = service.entrypoint ?? entrypoint;
  const tail = service.command ?? (service.entrypoint === undefined ? cmd : []);
  const command = [...head, ...tail];
  if (command.length > 0) return command;
  throw new KitError(
    "E_CONFIG_NO_COMMAND",
    `service ${service.name}: the image has neither ENTRYPOINT nor CMD`,
  );
}
