/** From `egress:` to the rules that are measured, and what cannot be right about them. */
import { KitError } from "../../core/errors.ts";
import type { YamlFile, YamlPath } from "../../core/yaml-file.ts";
import { REDIRECT_PORT } from "../../wire/egress-addresses.ts";
import type { EgressConfig, EgressRule } from "../../wire/egress-policy.ts";
import type { EnclaveYaml } from "./enclave-schema.ts";
import type { EgressRuleYaml } from "./egress-schema.ts";

const ALL_PORTS = [{ from: 1, to: 65_535 }];

/** @throws E_EGRESS_RULE with file:line:column */
export function toEgressConfig(yaml: EnclaveYaml, file: YamlFile): EgressConfig {
  checkConnectTo(yaml, file);
  checkServicePorts(yaml, file);
  const { http, socks } = yaml.egress_proxies;
  return {
    rules: yaml.egress.map(toRule),
    proxies: { ...(http === undefined ? {} : { http }), ...(socks === undefined ? {} : { socks }) },
  };
}

function toRule(rule: EgressRuleYaml): EgressRule {
  return {
    action: rule.action,
    ...(rule.host === undefined ? {} : { host: rule.host }),
    ...(rule.cidr === undefined ? {} : { cidr: rule.cidr }),
    ports: rule.port ?? ALL_PORTS,
    ...(rule.tls === undefined ? {} : { tls: rule.tls }),
    ...(rule.connections === undefined ? {} : { connections: rule.connections }),
    ...(rule.rate === undefined ? {} : { connectionsPerSecond: rule.rate }),
    ...(rule.max_bytes === undefined ? {} : { maxBytes: rule.max_bytes }),
    ...(rule.idle_timeout === undefined ? {} : { idleTimeoutMs: rule.idle_timeout }),
    ...(rule.timeout === undefined ? {} : { totalTimeoutMs: rule.timeout }),
    ...(rule.connect_to === undefined ? {} : { connectTo: rule.connect_to }),
  };
}

function checkConnectTo(yaml: EnclaveYaml, file: YamlFile): void {
  if (yaml.mode !== "production") return;
  const index = yaml.egress.findIndex((rule) => rule.connect_to !== undefined);
  if (index === -1) return;
  throw refuse(
    file,
    ["egress", index, "connect_to"],
    "is for development: mode: production connects to the name itself",
  );
}

/**
 * The gateway listens on a few ports of loopback. Where the kernel does not redirect it also listens on the port of every
 * rule, each on an address of its own, and a service that listens on all addresses of that port would keep it from that.
 */
function checkServicePorts(yaml: EnclaveYaml, file: YamlFile): void {
  const redirects = typeof yaml.image.kernel !== "object" || !("blobs" in yaml.image.kernel);
  for (const [path, port] of servicePorts(yaml)) {
    const taken = ownPort(yaml, port);
    if (taken !== undefined) throw refuse(file, path, `port ${port} inside the enclave is ${taken}`);
    if (redirects) continue;
    const index = yaml.egress.findIndex(
      ({ action, port: ranges = [] }) =>
        action === "allow" && ranges.some(({ from, to }) => port >= from && port <= to),
    );
    if (index !== -1)
      throw refuse(
        file,
        path,
        `port ${port} is also that of egress.${index}, and nitro-cli's kernels do not redirect: let the service listen on another port`,
      );
  }
}

function ownPort({ egress_proxies: proxies }: EnclaveYaml, port: number): string | undefined {
  if (port === REDIRECT_PORT.egress || port === REDIRECT_PORT.dns) return "the gateway's own";
  if (port === proxies.http) return "that of egress_proxies.http";
  return port === proxies.socks ? "that of egress_proxies.socks" : undefined;
}

/** As far as the file tells. */
function servicePorts({ ports, services }: EnclaveYaml): (readonly [YamlPath, number])[] {
  const checked = Object.entries(services).flatMap(([name, { healthcheck }]) => {
    const test = healthcheck?.test;
    return test === undefined || test.kind === "exec"
      ? []
      : [[["services", name, "healthcheck"], test.port] as const];
  });
  return [...ports.map(({ servicePort }, index) => [["ports", index], servicePort] as const), ...checked];
}

function refuse(file: YamlFile, path: YamlPath, why: string): KitError {
  return new KitError("E_EGRESS_RULE", `${file.locate(path)}: ${path.join(".")}: ${why}`);
}
