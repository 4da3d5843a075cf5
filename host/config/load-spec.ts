/** enclave.yaml to EnclaveSpec: read, refuse keys of later releases, check the schema, then what spans keys. */
import { resolve } from "node:path";

import { KitError } from "../../core/errors.ts";
import { readYamlFile, type YamlFile, type YamlPath } from "../../core/yaml-file.ts";
import { toLimits } from "./limits-schema.ts";
import { decodeYaml } from "./decode-yaml.ts";
import { readClientCa } from "./client-ca.ts";
import { checkDependencies } from "./dependency-check.ts";
import { toEgressConfig } from "./egress-spec.ts";
import { EnclaveSchema, type EnclaveYaml } from "./enclave-schema.ts";
import type { EnclaveSpec, PortSpec, ResourceSpec, ServiceSpec } from "./enclave-spec.ts";
import { refuseLaterKeys } from "./later-keys.ts";
import { formatPortMapping } from "./port-mapping.ts";
import { resolveImage } from "./resolve-image.ts";

/**
 * Reads and validates `path`.
 * @throws E_CONFIG_* with file:line:column.
 */
export async function loadEnclaveSpec(path: string): Promise<EnclaveSpec> {
  const file = await readYamlFile(resolve(path));
  refuseLaterKeys(file);
  const yaml = decodeYaml(EnclaveSchema, file);
  const services = Object.entries(yaml.services).map(([name, service]) => toServiceSpec(name, service));
  checkServices(services, yaml, file);
  checkDependencies(services, file);
  checkPorts(yaml.ports, file);
  checkMode(yaml, file);
  return {
    file: file.path,
    name: yaml.name,
    mode: yaml.mode,
    attestation: yaml.attestation.provider ?? (yaml.mode === "development" ? "development" : "nitro"),
    image: await resolveImage(yaml, file),
    resources: toResources(yaml, file),
    services,
    ports: yaml.ports,
    egress: toEgressConfig(yaml, file),
    clientCa: await readClientCa(yaml, file),
    ...(yaml.attestation.publish === undefined ? {} : { attestationPort: yaml.attestation.publish }),
    logs: { ship: yaml.logs.ship ?? yaml.mode === "development" },
    singleUser: yaml.local.single_user,
  };
}

const DEFAULT_CPUS = 2;

/** How many or which, as for nitro-cli. */
function toResources({ resources }: EnclaveYaml, file: YamlFile): ResourceSpec {
  const { cpus, cpu_ids: cpuIds, numa_node: numaNode, memory: memoryBytes } = resources;
  if (cpus !== undefined && cpuIds !== undefined)
    throw invalid(file, ["resources", "cpu_ids"], "says which CPUs, so cpus cannot say how many: remove one");
  if (cpuIds?.includes(0) === true)
    throw invalid(file, ["resources", "cpu_ids"], "CPU 0 always stays with the host");
  return {
    cpus: cpuIds?.length ?? cpus ?? DEFAULT_CPUS,
    memoryBytes,
    ...(cpuIds === undefined ? {} : { cpuIds }),
    ...(numaNode === undefined ? {} : { numaNode }),
  };
}

function toServiceSpec(name: string, service: EnclaveYaml["services"][string]): ServiceSpec {
  return {
    name,
    ...(service.entrypoint === undefined ? {} : { entrypoint: service.entrypoint }),
    ...(service.command === undefined ? {} : { command: service.command }),
    environment: service.environment,
    ...(service.working_dir === undefined ? {} : { workingDir: service.working_dir }),
    ...(service.user === undefined ? {} : { user: service.user }),
    dependsOn: service.depends_on,
    restart: service.restart,
    stopSignal: service.stop_signal,
    stopGracePeriodMs: service.stop_grace_period,
    ...(service.healthcheck === undefined ? {} : { healthcheck: service.healthcheck }),
    limits: toLimits(service),
    capabilities: service.cap_add,
    netlink: service.netlink,
    nsm: service.nsm,
  };
}

/** Only an OCI image brings a command of its own. */
function checkServices(services: readonly ServiceSpec[], yaml: EnclaveYaml, file: YamlFile): void {
  if (typeof yaml.image.base === "object" && "oci" in yaml.image.base) return;
  if (services.length === 0) throw invalid(file, ["services"], "at least one service is required");
  for (const service of services) {
    if (service.command !== undefined || service.entrypoint !== undefined) continue;
    throw invalid(
      file,
      ["services", service.name],
      "command is required: this base has no command of its own",
    );
  }
}

function invalid(file: YamlFile, path: YamlPath, why: string): KitError {
  return new KitError("E_CONFIG_INVALID", `${file.locate(path)}: ${path.join(".")}: ${why}`);
}

/** What production must never allow. */
function checkMode(yaml: EnclaveYaml, file: YamlFile): void {
  if (yaml.mode !== "production") return;
  if (yaml.local.single_user) {
    throw invalid(
      file,
      ["local", "single_user"],
      "mode: production keeps every service under a uid of its own",
    );
  }
  if (yaml.image.base === "host")
    throw invalid(file, ["image", "base"], "mode: production cannot use the host's files");
}

function checkPorts(ports: readonly PortSpec[], file: YamlFile): void {
  const seen = new Map<string, number>();
  for (const [index, port] of ports.entries()) {
    const key = `${port.hostAddress} ${port.hostPort}`;
    const earlier = seen.get(key);
    if (earlier !== undefined && port.hostPort !== 0) {
      const message = `${file.locate(["ports", index])}: ports.${index}: ${formatPortMapping(port)} publishes the port of ports.${earlier} again`;
      throw new KitError("E_CONFIG_PORT", message);
    }
    seen.set(key, index);
  }
}
