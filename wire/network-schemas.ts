/** The shapes of wire/network-report.ts for those who read them from the other side of a socket. */
import { z } from "zod";

import {
  MAX_REPORTED_CONNECTIONS,
  MAX_REPORTED_DENIALS,
  MAX_REPORTED_LISTENERS,
  type NetworkReport,
  type TrafficCounts,
} from "./network-report.ts";

const MAX_RULES = 1024;
const Count = z.int().min(0);
const Text = z.string().max(1024);
const Port = z.int().min(1).max(65_535);
const Duration = z.number().min(0);

export const TrafficCountsSchema = z.object({
  live: Count,
  total: Count,
  refused: Count,
  bytesOut: Count,
  bytesIn: Count,
}) satisfies z.ZodType<TrafficCounts>;

const Listener = z.object({
  purpose: z.enum(["ingress", "attestation", "egress", "resolver", "http proxy", "socks proxy"]),
  protocol: z.enum(["tcp", "udp"]),
  address: z.string().max(64),
  port: Port,
  servicePort: Port.exactOptional(),
});

const Connection = z.object({
  direction: z.enum(["ingress", "egress"]),
  peer: Text,
  state: z.enum(["opening", "open"]),
  ageMs: Duration,
  idleMs: Duration,
  bytesOut: Count,
  bytesIn: Count,
});

const Denial = z.object({
  target: Text,
  reason: Text,
  count: Count,
  firstTime: z.number(),
  lastTime: z.number(),
  allow: Text.nullable(),
});

export const NetworkReportSchema = z.object({
  side: z.enum(["enclave", "host"]),
  redirection: z.enum(["kernel", "listeners"]).nullable(),
  listeners: z.array(Listener).max(MAX_REPORTED_LISTENERS),
  ingress: TrafficCountsSchema,
  egress: TrafficCountsSchema,
  rules: z.array(TrafficCountsSchema.extend({ rule: Text })).max(MAX_RULES),
  connections: z.array(Connection).max(MAX_REPORTED_CONNECTIONS),
  connectionsOmitted: Count,
  denials: z.array(Denial).max(MAX_REPORTED_DENIALS),
  denialsOmitted: Count,
}) satisfies z.ZodType<NetworkReport>;
