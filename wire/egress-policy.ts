/**
 * Egress rules as the measured configuration, the supervisor's frames and the runner's request carry them. Absent or
 * empty means nothing: an enclave without rules reaches nobody. What the rules mean is pf-proxy/policy.
 */
import type { KitError } from "../core/errors.ts";
import { StrictObject } from "./strict-object.ts";

/**
 * required   the connection must begin with a ClientHello that names the host in clear
 * optional   where the protocol shows a name (TLS, HTTP/1), it must be the host dialled
 * off        bytes are not looked at
 */
export type TlsMode = "required" | "optional" | "off";

/** Both ends included. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

export interface EgressRule {
  /** Any deny rule that matches beats every allow rule. */
  readonly action: "allow" | "deny";
  /** A canonical name, or `*.` and a canonical name for all names below it. Exactly one of host and cidr is there. */
  readonly host?: string;
  /** A canonical network such as 10.0.0.0/8 or fd00::/8. */
  readonly cidr?: string;
  /** Ascending, not overlapping, at least one. */
  readonly ports: readonly PortRange[];
  /** Absent: required on port 443, optional elsewhere (tlsModeOf). */
  readonly tls?: TlsMode;
  /** Connections at one time. */
  readonly connections?: number;
  /** New connections in each second, on average; a second's worth may come at once. */
  readonly connectionsPerSecond?: number;
  /** Of one connection, both directions together. */
  readonly maxBytes?: number;
  /** Without a byte in either direction. */
  readonly idleTimeoutMs?: number;
  /** From the first byte on. */
  readonly totalTimeoutMs?: number;
  /** Development only: the host dials this address instead. */
  readonly connectTo?: { readonly address: string; readonly port: number };
}

export interface EgressConfig {
  /** In the order of the YAML. */
  readonly rules: readonly EgressRule[];
  /** Ports on the enclave's loopback for programs that want a proxy; absent: none. */
  readonly proxies: { readonly http?: number; readonly socks?: number };
}

/** Port of HTTPS, where a connection that is not TLS is wrong unless the rule says otherwise. */
const TLS_PORT = 443;

export function tlsModeOf({ tls }: EgressRule, port: number): TlsMode {
  return tls ?? (port === TLS_PORT ? "required" : "optional");
}

export const NO_EGRESS: EgressConfig = { rules: [], proxies: {} };

export const MAX_EGRESS_RULES = 1024;
const MAX_PORT_RANGES = 64;
const PORT = { minimum: 1, maximum: 65_535 };
const COUNT = { minimum: 1, maximum: Number.MAX_SAFE_INTEGER };
const DURATION = { minimum: 1, maximum: 366 * 24 * 3_600_000 };
const RULE_KEYS = [
  "action",
  "host",
  "cidr",
  "ports",
  "tls",
  "connections",
  "connectionsPerSecond",
  "maxBytes",
  "idleTimeoutMs",
  "totalTimeoutMs",
  "connectTo",
];

/** Checks shape and bounds, not whether names are canonical. @param refuse makes the error */
export function decodeEgressConfig(
  value: unknown,
  place: string,
  refuse: (message: string) => KitError,
): EgressConfig {
  const object = new StrictObject(value, place, ["rules", "proxies"], refuse);
  const proxies = object.object("proxies", ["http", "socks"]);
  return {
    rules: object.list("rules", MAX_EGRESS_RULES, (rule, at) => decodeRule(rule, at, refuse)),
    proxies: {
      ...(proxies.has("http") ? { http: proxies.integer("http", PORT) } : {}),
      ...(proxies.has("socks") ? { socks: proxies.integer("socks", PORT) } : {}),
    },
  };
}

function decodeRule(value: unknown, place: string, refuse: (message: string) => KitError): EgressRule {
  const object = new StrictObject(value, place, RULE_KEYS, refuse);
  if (object.has("host") === object.has("cidr")) throw refuse(`${place}: needs either host or cidr`);
  const ports = object.list("ports", MAX_PORT_RANGES, (range, at) => decodeRange(range, at, refuse));
  if (ports.length === 0) throw refuse(`${place}.ports: must not be empty`);
  return {
    action: object.word("action", ["allow", "deny"]),
    ...(object.has("host") ? { host: object.text("host", { maximum: 255 }) } : {}),
    ...(object.has("cidr") ? { cidr: object.text("cidr", { maximum: 64 }) } : {}),
    ports,
    ...(object.has("tls") ? { tls: object.word("tls", ["required", "optional", "off"]) } : {}),
    ...readCount(object, "connections", COUNT),
    ...readCount(object, "connectionsPerSecond", COUNT),
    ...readCount(object, "maxBytes", COUNT),
    ...readCount(object, "idleTimeoutMs", DURATION),
    ...readCount(object, "totalTimeoutMs", DURATION),
    ...(object.has("connectTo") ? { connectTo: readConnectTo(object) } : {}),
  };
}

function readCount<Key extends string>(
  object: StrictObject,
  key: Key,
  range: { readonly minimum: number; readonly maximum: number },
): Partial<Record<Key, number>> {
  if (!object.has(key)) return {};
  const found: Partial<Record<Key, number>> = {};
  found[key] = object.integer(key, range);
  return found;
}

function readConnectTo(object: StrictObject): NonNullable<EgressRule["connectTo"]> {
  const place = object.object("connectTo", ["address", "port"]);
  return { address: place.text("address", { maximum: 64 }), port: place.integer("port", PORT) };
}

function decodeRange(value: unknown, place: string, refuse: (message: string) => KitError): PortRange {
  const object = new StrictObject(value, place, ["from", "to"], refuse);
  const from = object.integer("from", PORT);
  return { from, to: object.integer("to", { ...PORT, minimum: from }) };
}
