/** `egress:` of enclave.yaml, from text to measured rules. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { loadEnclaveSpec } from "../../host/config/load-spec.ts";
import { EgressPolicy } from "../../pf-proxy/policy/egress-policy.ts";
import { type EgressConfig, NO_EGRESS } from "../../wire/egress-policy.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "egress-"));
});
afterEach(() => rm(directory, { recursive: true }));

interface Around {
  readonly mode?: string;
  readonly image?: string;
  readonly rest?: string;
}

async function read(
  egress: string,
  { mode = "development", image = "", rest = "" }: Around = {},
): Promise<EgressConfig> {
  const file = join(directory, "enclave.yaml");
  const lines = [
    "name: x",
    `mode: ${mode}`,
    `image: { base: { debian: [] }${image} }`,
    "services: { a: { command: [x] } }",
  ];
  await writeFile(file, [...lines, egress, rest].join("\n"));
  return (await loadEnclaveSpec(file)).egress;
}

const RULE = "{ host: example.com, port: 443 }";

describe("nothing is allowed", () => {
  test.each(["", "egress:", "egress: null", "egress: []", "egress: ~"])("by %j", async (text) => {
    expect(await read(text)).toEqual(NO_EGRESS);
  });
});

describe("a rule", () => {
  test.each<[string, object]>([
    [RULE, { action: "allow", host: "example.com", ports: [{ from: 443, to: 443 }] }],
    ["{ host: EXAMPLE.com., port: 443 }", { host: "example.com" }],
    ["{ host: bücher.de, port: 443 }", { host: "xn--bcher-kva.de" }],
    [
      '{ host: "*.example.com", port: 8000-8010 }',
      { host: "*.example.com", ports: [{ from: 8000, to: 8010 }] },
    ],
    ["{ host: a.b, port: [443, 80, 81, 5000-6000, 5500-7000] }", { ports: [{ from: 80, to: 81 }, { from: 443, to: 443 }, { from: 5000, to: 7000 }] }], // prettier-ignore
    ["{ cidr: 10.0.0.0/8, port: 5432 }", { cidr: "10.0.0.0/8" }],
    ['{ cidr: "fd00::/8", port: 5432 }', { cidr: "fd00::/8" }],
    ["{ action: deny, host: a.b }", { action: "deny", ports: [{ from: 1, to: 65_535 }] }],
    ["{ host: a.b, port: 1, tls: off }", { tls: "off" }],
    ["{ host: a.b, port: 1, protocol: tcp }", {}],
    ["{ host: a.b, port: 1, connections: 5, rate: 10/s, max_bytes: 1MiB }", { connections: 5, connectionsPerSecond: 10, maxBytes: 1_048_576 }], // prettier-ignore
    [
      "{ host: a.b, port: 1, idle_timeout: 10s, timeout: 1h }",
      { idleTimeoutMs: 10_000, totalTimeoutMs: 3_600_000 },
    ],
    [
      '{ host: a.b, port: 1, connect_to: "127.0.0.1:8080" }',
      { connectTo: { address: "127.0.0.1", port: 8080 } },
    ],
    ['{ host: a.b, port: 1, connect_to: "[::1]:8080" }', { connectTo: { address: "::1", port: 8080 } }],
  ])("%s is understood, and the policy takes it", async (rule, expected) => {
    const { rules } = await read(`egress: [${rule}]`);
    expect(rules).toMatchObject([expected]);
    expect(() => new EgressPolicy(rules)).not.toThrow();
  });

  test.each<[string, RegExp]>([
    ["{ port: 443 }", /either host or cidr/],
    ["{ host: a.b, cidr: 10.0.0.0/8, port: 1 }", /either host or cidr/],
    ["{ host: a.b }", /must say which port/],
    ['{ host: "*", port: 443 }', /host/],
    ['{ host: "a.*.b", port: 443 }', /host/],
    ["{ host: 127.0.0.1, port: 443 }", /host/],
    ["{ host: a_b..c, port: 443 }", /host/],
    ['{ host: "a%00.b", port: 443 }', /host/],
    ["{ cidr: 10.0.0.1/8, port: 1 }", /cidr/],
    ["{ cidr: example.com, port: 1 }", /cidr/],
    ["{ host: a.b, port: 0 }", /port/],
    ["{ host: a.b, port: 65536 }", /port/],
    ["{ host: a.b, port: 90-80 }", /port/],
    ["{ host: a.b, port: [] }", /port/],
    ["{ host: a.b, port: 53, protocol: udp }", /only tcp/],
    ["{ host: a.b, port: 1, tls: maybe }", /tls/],
    ["{ host: a.b, port: 1, rate: fast }", /10\/s/],
    ["{ host: a.b, port: 1, connections: 0 }", /connections/],
    ["{ host: a.b, port: 1, idle_timeout: 0s }", /longer than nothing/],
    ["{ host: a.b, port: 1, connect_to: localhost:80 }", /127\.0\.0\.1:8080/],
    ["{ action: deny, host: a.b, tls: off }", /denies/],
    ["{ hots: a.b, port: 1 }", /did you mean "host"/],
  ])("%s is refused with its place", async (rule, why) => {
    const refusal = await read(`egress:\n  - ${rule}`).catch((error: unknown) => error);
    expect(refusal).toMatchObject({
      code: expect.stringMatching(/^E_CONFIG_/) as string,
      message: expect.stringMatching(why) as string,
    });
    expect(refusal).toMatchObject({
      message: expect.stringMatching(/enclave\.yaml:[0-9]+:[0-9]+: egress\.0/) as string,
    });
  });
});

describe("refused with what is around it", () => {
  const connectTo = 'egress: [{ host: a.b, port: 443, connect_to: "127.0.0.1:80" }]';
  const blobs = ", kernel: { blobs: . }";

  test.each<[string, string, Around, RegExp]>([
    ["connect_to in production", connectTo, { mode: "production" }, /egress\.0\.connect_to/],
    [
      "a published port that is the gateway's",
      `egress: [${RULE}]`,
      { rest: 'ports: ["2"]' },
      /the gateway's own/,
    ],
    [
      "a published port that is a proxy's",
      "egress_proxies: { http: 3128 }",
      { rest: 'ports: ["3128"]' },
      /egress_proxies\.http/,
    ],
    [
      "a published port of a rule where nothing redirects",
      `egress: [${RULE}]`,
      { image: blobs, rest: 'ports: ["443"]' },
      /do not redirect/,
    ],
  ])("%s", async (_what, egress, around, why) => {
    const refusal = await read(egress, around).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: "E_EGRESS_RULE", message: expect.stringMatching(why) as string });
  });

  test("but not a published port of a rule where the kernel redirects", async () => {
    expect((await read(`egress: [${RULE}]`, { rest: 'ports: ["443"]' })).rules).toHaveLength(1);
  });
});
