import type {
  DependencyCondition,
  Healthcheck,
  RestartPolicy,
  ServiceLimits,
} from "../../wire/enclave-config.ts";
import type { EgressConfig } from "../../wire/egress-policy.ts";
import type { ImageSpec } from "../../wire/image-spec.ts";

/** A service of enclave.yaml with defaults filled in; what only the image knows (its users, ENTRYPOINT) is open. */
export interface ServiceSpec {
  readonly name: string;
  /** Replaces the image's ENTRYPOINT where given. */
  readonly entrypoint?: readonly string[];
  /** Replaces the image's CMD where given. */
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly workingDir?: string;
  /** As in Docker: name, uid, name:group or uid:gid. */
  readonly user?: string;
  readonly dependsOn: readonly { readonly service: string; readonly condition: DependencyCondition }[];
  readonly restart: RestartPolicy;
  readonly stopSignal: string;
  readonly stopGracePeriodMs: number;
  readonly healthcheck?: Healthcheck;
  readonly limits: ServiceLimits;
  /** Names such as CAP_NET_BIND_SERVICE, sorted. */
  readonly capabilities: readonly string[];
  readonly netlink: boolean;
  /** It may open /dev/nsm. */
  readonly nsm: boolean;
}

export interface PortSpec {
  /** IP address on the host. */
  readonly hostAddress: string;
  /** 0: the kernel chooses a free one. */
  readonly hostPort: number;
  /** TCP port of a service inside. */
  readonly servicePort: number;
}

/** What the machine gets. None of it is in the image. */
export interface ResourceSpec {
  readonly cpus: number;
  readonly memoryBytes: number;
  /** As many as `cpus`. This and the node are for the nitro backend; the others have no CPUs of their own to give. */
  readonly cpuIds?: readonly number[];
  readonly numaNode?: number;
}

/** enclave.yaml, validated: host/config/load-spec.ts makes it. */
export interface EnclaveSpec {
  /** Absolute path of the YAML file. */
  readonly file: string;
  readonly name: string;
  readonly mode: "development" | "production";
  readonly attestation: "nitro" | "development";
  readonly image: ImageSpec;
  readonly resources: ResourceSpec;
  /** Empty: the image's own ENTRYPOINT and CMD are the one service. */
  readonly services: readonly ServiceSpec[];
  readonly ports: readonly PortSpec[];
  readonly egress: EgressConfig;
  /** PEM of the authorities of clients of the attestation server; null: any client. */
  readonly clientCa: string | null;
  /** Where the host publishes the attestation server; undefined: nowhere. */
  readonly attestationPort?: Omit<PortSpec, "servicePort">;
  readonly logs: { readonly ship: boolean };
  /** local: { single_user: true } */
  readonly singleUser: boolean;
}
