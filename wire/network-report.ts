/**
 * What `pipeline net` shows: the traffic of one side, enclave or host. Both are bounded; what did not fit is counted.
 * Schemas for those who read it from the other side: wire/network-schemas.ts.
 */

/** `out` leaves the enclave, `in` enters it, whoever opened the connection. */
export interface TrafficCounts {
  /** Connections now. */
  readonly live: number;
  /** Connections since the start. */
  readonly total: number;
  /** Of them, refused for any reason. */
  readonly refused: number;
  readonly bytesOut: number;
  readonly bytesIn: number;
}

export interface NetworkListener {
  readonly purpose: "ingress" | "attestation" | "egress" | "resolver" | "http proxy" | "socks proxy";
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  /** Of ingress: the port inside. */
  readonly servicePort?: number;
}

export interface RuleTraffic extends TrafficCounts {
  /** The rule in the words of the YAML. */
  readonly rule: string;
}

export interface NetworkConnection {
  readonly direction: "ingress" | "egress";
  /** `example.com:443` of egress, `port 80` of ingress. */
  readonly peer: string;
  readonly state: "opening" | "open";
  readonly ageMs: number;
  readonly idleMs: number;
  readonly bytesOut: number;
  readonly bytesIn: number;
}

export interface NetworkDenial {
  /** `example.com:443`; a name alone where the resolver refused it. */
  readonly target: string;
  /** `no_rule`, `deny_rule`, `inspection: ...`, ... */
  readonly reason: string;
  readonly count: number;
  /** Milliseconds since the epoch. */
  readonly firstTime: number;
  readonly lastTime: number;
  /** The rule that would allow it, where one would. */
  readonly allow: string | null;
}

export interface NetworkReport {
  readonly side: "enclave" | "host";
  /** How connections of services come to the gateway; null on the host. */
  readonly redirection: "kernel" | "listeners" | null;
  readonly listeners: readonly NetworkListener[];
  readonly ingress: TrafficCounts;
  readonly egress: TrafficCounts;
  readonly rules: readonly RuleTraffic[];
  readonly connections: readonly NetworkConnection[];
  readonly connectionsOmitted: number;
  readonly denials: readonly NetworkDenial[];
  readonly denialsOmitted: number;
}

export const MAX_REPORTED_LISTENERS = 4096;
export const MAX_REPORTED_CONNECTIONS = 1000;
export const MAX_REPORTED_DENIALS = 256;
