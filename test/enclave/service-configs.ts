import { NO_EGRESS } from "../../wire/egress-policy.ts";
import { CONFIG_VERSION, type EnclaveConfig, type ServiceConfig } from "../../wire/enclave-config.ts";

/** A service that runs `script` with sh as the user of the tests. */
export function shellService(name: string, script: string, rest: Partial<ServiceConfig> = {}): ServiceConfig {
  return {
    name,
    command: ["/bin/sh", "-c", script],
    environment: { PATH: "/usr/local/bin:/usr/bin:/bin" },
    workingDir: "/",
    user: {
      name: "tester",
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      groups: [],
      home: "/",
    },
    dependsOn: [],
    restart: { policy: "no" },
    stopSignal: "SIGTERM",
    stopGracePeriodMs: 5_000,
    limits: {},
    capabilities: [],
    ...rest,
  };
}

export function enclaveConfig(
  services: readonly ServiceConfig[],
  rest: Partial<EnclaveConfig> = {},
): EnclaveConfig {
  return {
    version: CONFIG_VERSION,
    name: "test",
    mode: "development",
    attestation: "development",
    services,
    ingressPorts: [],
    egress: NO_EGRESS,
    logs: { ship: true },
    clientCa: null,
    build: { toolkit: "0.0.0", lock: null },
    singleUser: true,
    ...rest,
  };
}
