/**
 * The measured configuration: what `enclave.yaml` became after validation and build, stored in the image at
 * RUNTIME.config. The supervisor acts on nothing else. Its JSON is canonical (sorted keys), so it is reproducible.
 */
import type { EgressConfig } from "./egress-policy.ts";

export const CONFIG_VERSION = 3;

export type DependencyCondition = "service_started" | "service_healthy" | "service_completed_successfully";

export type RestartPolicy =
  | { readonly policy: "no" }
  | { readonly policy: "always" }
  | { readonly policy: "unless-stopped" }
  /** maximumRetries absent: no limit. */
  | { readonly policy: "on-failure"; readonly maximumRetries?: number };

export type HealthTest =
  | { readonly kind: "exec"; readonly command: readonly string[] }
  /** GET on 127.0.0.1; healthy if the status is 200 to 399. */
  | { readonly kind: "http"; readonly port: number; readonly path: string }
  /** Healthy if a connection to 127.0.0.1:port opens. */
  | { readonly kind: "tcp"; readonly port: number };

export interface Healthcheck {
  readonly test: HealthTest;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row that make a service unhealthy. */
  readonly retries: number;
  /** Failures within this time from the start do not count. */
  readonly startPeriodMs: number;
}

export interface ServiceUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, ascending. */
  readonly groups: readonly number[];
  readonly home: string;
  /** Nobody named a user: the build gave the service a uid of its own, and where there is only one uid it takes that. */
  readonly assigned?: true;
}

/** Soft and hard value of one resource limit; null: unlimited. */
export interface ResourceLimit {
  readonly soft: number | null;
  readonly hard: number | null;
}

/** What one service may use at most; absent: not limited beyond the whole enclave. */
export interface ServiceLimits {
  readonly memoryBytes?: number;
  /** Processes and threads. */
  readonly pids?: number;
  /** For example 0.5. */
  readonly cpus?: number;
  /** CPU time of one run. */
  readonly cpuTimeMs?: number;
  /** Wall-clock time of one run. */
  readonly runTimeMs?: number;
  /** Bytes printed in one run. */
  readonly outputBytes?: number;
  /** By the names of setrlimit in lower case: nofile, core, fsize, ... */
  readonly ulimits?: Readonly<Record<string, ResourceLimit>>;
}

export interface ServiceConfig {
  readonly name: string;
  /** Program and arguments; a program without a slash is looked up in the service's PATH. */
  readonly command: readonly string[];
  /** The whole environment: nothing is inherited. */
  readonly environment: Readonly<Record<string, string>>;
  readonly workingDir: string;
  readonly user: ServiceUser;
  readonly dependsOn: readonly { readonly service: string; readonly condition: DependencyCondition }[];
  readonly restart: RestartPolicy;
  /** A name such as SIGTERM. */
  readonly stopSignal: string;
  /** Time from the stop signal to SIGKILL. */
  readonly stopGracePeriodMs: number;
  readonly healthcheck?: Healthcheck;
  readonly limits: ServiceLimits;
  /** Names such as CAP_NET_BIND_SERVICE, sorted; everything else is taken away. */
  readonly capabilities: readonly string[];
  /** It may list network interfaces, for which programs open NETLINK_ROUTE sockets. */
  readonly netlink?: true;
  /** It may open /dev/nsm, so it can have documents made that say what it likes. */
  readonly nsm?: true;
}

/** By what the image was made. */
export interface BuildIdentity {
  /** Version of the toolkit. */
  readonly toolkit: string;
  /** SHA-256 of enclave.lock, hex; null: made from what was there. */
  readonly lock: string | null;
}

export interface EnclaveConfig {
  readonly version: typeof CONFIG_VERSION;
  readonly name: string;
  readonly mode: "development" | "production";
  readonly attestation: "nitro" | "development";
  /** In the order of the YAML. */
  readonly services: readonly ServiceConfig[];
  /** Service ports on 127.0.0.1 that the ingress listener may reach, ascending. */
  readonly ingressPorts: readonly number[];
  readonly egress: EgressConfig;
  readonly logs: { readonly ship: boolean };
  /** Whose certificates clients of the attestation server must show, in PEM; null: any client. */
  readonly clientCa: string | null;
  readonly build: BuildIdentity;
  /** The operator allows every service to run under one uid where no more can be had. */
  readonly singleUser: boolean;
}
