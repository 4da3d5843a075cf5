/** `egress:` of enclave.yaml. What rules mean is decided in pf-proxy/policy; here is only how they are written. */
import { isIP } from "node:net";

import { z } from "zod";

import { KitError } from "../../core/errors.ts";
import { MAX_EGRESS_RULES, type PortRange } from "../../wire/egress-policy.ts";
import { parseHostPattern } from "../../pf-proxy/policy/host-name.ts";
import { parseNetwork } from "../../pf-proxy/policy/network.ts";
import { Duration } from "./duration-schema.ts";
import { Bytes } from "./limits-schema.ts";

const MAX_PORT = 65_535;
const MAX_COUNT = 1_000_000;

/** Turns a refusal of the policy module into one of the schema. */
function canonical(read: (text: string) => { readonly text: string }) {
  return z
    .string()
    .max(300)
    .transform((text, context) => {
      try {
        return read(text).text;
      } catch (error) {
        if (!(error instanceof KitError)) throw error;
        context.addIssue({ code: "custom", message: error.message });
        return z.NEVER;
      }
    });
}

const Port = z.number().int().min(1).max(MAX_PORT);
const PortText = z
  .union([Port, z.string().regex(/^[0-9]{1,5}(?:-[0-9]{1,5})?$/, "write 443 or 8000-8010")])
  .transform((value, context): PortRange => {
    const [from = 0, to = from] = String(value).split("-").map(Number);
    if (from >= 1 && to <= MAX_PORT && from <= to) return { from, to };
    context.addIssue({ code: "custom", message: `${JSON.stringify(value)} is no port or range of ports` });
    return z.NEVER;
  });

/** Ascending, and those that touch are one. */
const Ports = z
  .union([PortText.transform((range) => [range]), z.array(PortText).min(1).max(64)])
  .transform((ranges) => {
    const merged: PortRange[] = [];
    for (const range of [...ranges].sort((a, b) => a.from - b.from)) {
      const last = merged.at(-1);
      if (last === undefined || range.from > last.to + 1) merged.push(range);
      else merged[merged.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
    }
    return merged;
  });

const Rate = z
  .string()
  .regex(/^[1-9][0-9]{0,5}\/s$/, "write a number of connections a second such as 10/s")
  .transform((text) => Number(text.split("/")[0]));

const ConnectTo = z.string().transform((text, context) => {
  const [, ipv6, ipv4, port = ""] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(text) ?? [];
  const address = ipv6 ?? ipv4 ?? "";
  if (isIP(address) !== 0 && Number(port) >= 1 && Number(port) <= MAX_PORT)
    return { address, port: Number(port) };
  context.addIssue({
    code: "custom",
    message: `${JSON.stringify(text)} is no address and port: write 127.0.0.1:8080`,
  });
  return z.NEVER;
});

const Count = z.number().int().min(1).max(MAX_COUNT);
const Positive = Duration.pipe(z.number().min(1, "must be longer than nothing"));

const Rule = z
  .strictObject({
    action: z.enum(["allow", "deny"]).default("allow"),
    host: canonical(parseHostPattern).optional(),
    cidr: canonical(parseNetwork).optional(),
    port: Ports.optional(),
    protocol: z.literal("tcp", { error: "only tcp leaves an enclave" }).default("tcp"),
    tls: z.enum(["required", "optional", "off"]).optional(),
    connections: Count.optional(),
    rate: Rate.optional(),
    max_bytes: Bytes.optional(),
    idle_timeout: Positive.optional(),
    timeout: Positive.optional(),
    connect_to: ConnectTo.optional(),
  })
  .refine(({ host, cidr }) => (host === undefined) !== (cidr === undefined), "write either host or cidr")
  .refine(
    ({ action, port }) => action === "deny" || port !== undefined,
    "a rule that allows must say which port",
  )
  .refine(
    ({ action, ...rest }) =>
      action === "allow" ||
      Object.entries(rest).every(([key, value]) => DENY_KEYS.has(key) || value === undefined),
    "a rule that denies has only host or cidr, and port",
  );
const DENY_KEYS: ReadonlySet<string> = new Set(["host", "cidr", "port", "protocol"]);

/** Nothing written, null and an empty list are the same: nothing is allowed. */
export const Egress = z
  .array(Rule)
  .max(MAX_EGRESS_RULES)
  .nullish()
  .transform((rules) => rules ?? []);

export const EgressProxies = z.strictObject({ http: Port.optional(), socks: Port.optional() }).prefault({});

export type EgressRuleYaml = z.output<typeof Rule>;
