/** The measured configuration of a spec, once the image's users and defaults are known. */
import { KitError } from "../../core/errors.ts";
import type { ImageFacts } from "../../rbuilds/image-facts.ts";
import { CONFIG_VERSION, type EnclaveConfig, type ServiceConfig } from "../../wire/enclave-config.ts";
import { RUNTIME } from "../../wire/runtime-layout.ts";
import type { EnclaveSpec, ServiceSpec } from "../config/enclave-spec.ts";

/** Where programs without a slash are looked up unless the image or the service says otherwise. */
const DEFAULT_PATH = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${RUNTIME.binaries}`;

export async function toEnclaveConfig(spec: EnclaveSpec, facts: ImageFacts): Promise<EnclaveConfig> {
  const services = spec.services.length > 0 ? spec.services : [defaultService(spec.name)];
  const ports = new Set(spec.ports.map((port) => port.servicePort));
  return {
    version: CONFIG_VERSION,
    name: spec.name,
    mode: spec.mode,
    attestation: spec.attestation,
    services: await Promise.all(services.map((service) => toServiceConfig(service, facts))),
    ingressPorts: [...ports].sort((a, b) => a - b),
    logs: spec.logs,
    singleUser: spec.singleUser,
  };
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
  };
}

async function toServiceConfig(service: ServiceSpec, facts: ImageFacts): Promise<ServiceConfig> {
  return {
    name: service.name,
    command: commandOf(service, facts),
    environment: { PATH: DEFAULT_PATH, ...facts.defaults.env, ...service.environment },
    workingDir: service.workingDir ?? facts.defaults.workingDir ?? "/",
    user: await facts.resolveUser(service.user ?? facts.defaults.user ?? "0"),
    dependsOn: service.dependsOn,
    restart: service.restart,
    stopSignal: service.stopSignal,
    stopGracePeriodMs: service.stopGracePeriodMs,
    ...(service.healthcheck === undefined ? {} : { healthcheck: service.healthcheck }),
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
