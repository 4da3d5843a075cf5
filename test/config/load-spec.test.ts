import { execFile } from "node:child_process";
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { loadEnclaveSpec } from "../../host/config/load-spec.ts";

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "enclave-yaml-"));
  await mkdir(join(directory, "app"));
});
afterAll(() => rm(directory, { recursive: true }));

const HEAD = "name: web\nmode: development\nimage:\n  base: { debian: [redis-server] }\n";
const SERVICE = "services:\n  web:\n    command: [node, /app/server.js]\n";

async function load(text: string): ReturnType<typeof loadEnclaveSpec> {
  const path = join(directory, `${crypto.randomUUID()}.yaml`);
  await writeFile(path, text);
  return await loadEnclaveSpec(path);
}

/** The refusal of `text` as `CODE line:column message`. */
async function refusal(text: string): Promise<string> {
  const error: unknown = await load(text).then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!(error instanceof KitError)) throw new Error(`expected a refusal, got ${String(error)}`);
  return `${error.code} ${error.message.replaceAll(/\/\S*\.yaml:/g, "")}`;
}

test("fills in the defaults of a minimal file", async () => {
  const spec = await load(HEAD + SERVICE);
  expect(spec).toMatchObject({
    name: "web",
    mode: "development",
    attestation: "development",
    resources: { cpus: 2, memoryBytes: 1024 ** 3 },
    ports: [],
    logs: { ship: true },
    singleUser: false,
  });
  expect(spec.services).toEqual([
    {
      name: "web",
      command: ["node", "/app/server.js"],
      environment: {},
      dependsOn: [],
      restart: { policy: "no" },
      stopSignal: "SIGTERM",
      stopGracePeriodMs: 10_000,
      limits: {},
      capabilities: [],
      netlink: false,
      nsm: false,
    },
  ]);
});

test("CPUs are how many or which, and neither is said where both are left out", async () => {
  const resources = async (text: string) => (await load(`${HEAD}${SERVICE}resources: ${text}\n`)).resources;
  expect(await resources("{ cpus: 4 }")).toEqual({ cpus: 4, memoryBytes: 1024 ** 3 });
  expect(await resources("{ cpu_ids: [2, 34], numa_node: 1 }")).toEqual({
    cpus: 2,
    cpuIds: [2, 34],
    numaNode: 1,
    memoryBytes: 1024 ** 3,
  });
  expect(await resources("{ numa_node: 0 }")).toMatchObject({ cpus: 2, numaNode: 0 });
});

test("reads compose's other spellings", async () => {
  const spec = await load(`${HEAD}services:
  one: { command: [a, 1], environment: [A=b=c, E=], restart: "on-failure:3", stop_signal: INT, stop_grace_period: 1m30s }
  two: { command: [b], environment: { N: 5, T: true }, depends_on: [one], user: 1000, healthcheck: { test: "exit 0", interval: 1s } }
ports: ["80", 81, "8080:80", "[::1]:8081:80", "0.0.0.0:0:80"]
`);
  expect(spec.services[0]).toMatchObject({
    command: ["a", "1"],
    environment: { A: "b=c", E: "" },
    restart: { policy: "on-failure", maximumRetries: 3 },
    stopSignal: "SIGINT",
    stopGracePeriodMs: 90_000,
  });
  expect(spec.services[1]).toMatchObject({
    environment: { N: "5", T: "true" },
    dependsOn: [{ service: "one", condition: "service_started" }],
    user: "1000",
    healthcheck: { test: { kind: "exec", command: ["/bin/sh", "-c", "exit 0"] }, intervalMs: 1000 },
  });
  expect(spec.ports).toEqual([
    { hostAddress: "127.0.0.1", hostPort: 0, servicePort: 80 },
    { hostAddress: "127.0.0.1", hostPort: 0, servicePort: 81 },
    { hostAddress: "127.0.0.1", hostPort: 8080, servicePort: 80 },
    { hostAddress: "::1", hostPort: 8081, servicePort: 80 },
    { hostAddress: "0.0.0.0", hostPort: 0, servicePort: 80 },
  ]);
});

test("reads limits, ulimits and capabilities", async () => {
  const { services } = await load(`${HEAD}services:
  one:
    command: [a]
    mem_limit: 256MiB
    pids_limit: 64
    cpus: "0.5"
    cpu_time_limit: 10s
    run_time_limit: 1m
    output_limit: 1MiB
    ulimits: { nofile: 1024, core: { soft: 0, hard: -1 } }
    cap_add: [NET_BIND_SERVICE, CAP_CHOWN, NET_BIND_SERVICE]
`);
  expect(services[0]).toMatchObject({
    limits: {
      memoryBytes: 256 * 1024 ** 2,
      pids: 64,
      cpus: 0.5,
      cpuTimeMs: 10_000,
      runTimeMs: 60_000,
      outputBytes: 1024 ** 2,
      ulimits: { nofile: { soft: 1024, hard: 1024 }, core: { soft: 0, hard: null } },
    },
    capabilities: ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
  });
});

describe("refuses with code, line, column and value", () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ["malformed YAML", `${HEAD}services: [`, /^E_CONFIG_SYNTAX 5:/],
    ["a duplicate key", `${HEAD}mode: production\n`, /^E_CONFIG_SYNTAX 5:1: .*unique/],
    ["an empty file", "", /^E_CONFIG_INVALID 1:1: the file/],
    ["a file that is a list", "- a\n", /^E_CONFIG_INVALID 1:1: the file/],
    [
      "a missing mode",
      `name: web\n${HEAD.slice(HEAD.indexOf("image"))}${SERVICE}`,
      /^E_CONFIG_INVALID 1:1: mode: is required: one of development, production/,
    ],
    ["another mode", `${HEAD.replace("development", "debug")}${SERVICE}`, /^E_CONFIG_INVALID 2:7: mode: /],
    [
      "an unknown key of a service",
      `${HEAD}services:\n  web:\n    comand: [a]\n    command: [a]\n`,
      /^E_CONFIG_UNKNOWN_KEY 7:5: services\.web\.comand: unknown key; did you mean "command"\?/,
    ],
    [
      "an unknown key at the top",
      `${HEAD}${SERVICE}prots: []\n`,
      /^E_CONFIG_UNKNOWN_KEY 8:1: prots: unknown key; did you mean "ports"\?/,
    ],
    [
      "an unknown key of the image's base",
      "name: web\nmode: development\nimage:\n  base: { debain: [] }\n",
      /E_CONFIG_UNKNOWN_KEY 4:11: image\.base\.debain: unknown key; did you mean "debian"\?/,
    ],
    [
      "a key of a later release",
      `${HEAD}${SERVICE}operators: []\n`,
      /^E_CONFIG_UNSUPPORTED 8:1: operators: /,
    ],
    [
      "CPUs that are both counted and named",
      `${HEAD}${SERVICE}resources: { cpus: 2, cpu_ids: [1, 2] }\n`,
      /^E_CONFIG_INVALID 8:\d+: resources\.cpu_ids: .*remove one/,
    ],
    [
      "the host's own CPU",
      `${HEAD}${SERVICE}resources: { cpu_ids: [0, 1] }\n`,
      /^E_CONFIG_INVALID .*resources\.cpu_ids: CPU 0 always stays/,
    ],
    [
      "a CPU that is named twice",
      `${HEAD}${SERVICE}resources: { cpu_ids: [3, 3] }\n`,
      /^E_CONFIG_INVALID .*resources\.cpu_ids: names a CPU twice/,
    ],
    [
      "a CPU beyond the last",
      `${HEAD}${SERVICE}resources: { cpu_ids: [4096] }\n`,
      /^E_CONFIG_INVALID .*resources\.cpu_ids\.0/,
    ],
    [
      "a negative NUMA node",
      `${HEAD}${SERVICE}resources: { numa_node: -1 }\n`,
      /^E_CONFIG_INVALID .*resources\.numa_node/,
    ],
    [
      "a wrong type",
      `${HEAD}services:\n  web: { command: [a], working_dir: 5 }\n`,
      /^E_CONFIG_INVALID 6:\d+: services\.web\.working_dir: /,
    ],
    [
      "a command that is a string",
      `${HEAD}services:\n  web: { command: node server.js }\n`,
      /^E_CONFIG_INVALID 6:19: services\.web\.command: write a list/,
    ],
    [
      "a variable taken from the host",
      `${HEAD}services:\n  web: { command: [a], environment: { TOKEN: } }\n`,
      /^E_CONFIG_INVALID .*services\.web\.environment/,
    ],
    [
      "a limit below what any program needs",
      `${HEAD}services:\n  web: { command: [a], mem_limit: 1k }\n`,
      /^E_CONFIG_INVALID .*services\.web\.mem_limit: a service needs at least 4MiB/,
    ],
    [
      "a soft limit above the hard one",
      `${HEAD}services:\n  web: { command: [a], ulimits: { nofile: { soft: 2, hard: 1 } } }\n`,
      /^E_CONFIG_INVALID .*services\.web\.ulimits\.nofile: the soft limit is above/,
    ],
    [
      "an unknown resource",
      `${HEAD}services:\n  web: { command: [a], ulimits: { nofiles: 1 } }\n`,
      /^E_CONFIG_\w+ .*nofiles/,
    ],
    [
      "all capabilities at once",
      `${HEAD}services:\n  web: { command: [a], cap_add: [ALL] }\n`,
      /^E_CONFIG_INVALID .*"ALL" is no capability/,
    ],
    [
      "a bad duration",
      `${HEAD}services:\n  web: { command: [a], stop_grace_period: 10 s }\n`,
      /^E_CONFIG_INVALID 6:43: services\.web\.stop_grace_period: "10 s" is no duration/,
    ],
    [
      "a bad restart policy",
      `${HEAD}services:\n  web: { command: [a], restart: often }\n`,
      /^E_CONFIG_INVALID 6:33: services\.web\.restart: "often" is none of/,
    ],
    [
      "a bad signal",
      `${HEAD}services:\n  web: { command: [a], stop_signal: SIGSTOPP }\n`,
      /^E_CONFIG_INVALID 6:37: .*"SIGSTOPP" is no signal/,
    ],
    [
      "a bad service name",
      `${HEAD}services:\n  Web: { command: [a] }\n`,
      /^E_CONFIG_INVALID 6:3: services\.Web: a service name/,
    ],
    [
      "two health tests",
      `${HEAD}services:\n  web: { command: [a], healthcheck: { tcp: 1, http: "http://127.0.0.1:1/" } }\n`,
      /^E_CONFIG_INVALID .*exactly one/,
    ],
    [
      "a health test of another machine",
      `${HEAD}services:\n  web: { command: [a], healthcheck: { http: "http://example.org/" } }\n`,
      /^E_CONFIG_INVALID .*127\.0\.0\.1/,
    ],
    [
      "an unknown dependency",
      `${HEAD}services:\n  web: { command: [a], depends_on: [bd] }\n  db: { command: [a] }\n`,
      /^E_CONFIG_DEPENDENCY 6:\d+: services\.web\.depends_on: no service "bd"; did you mean "db"\?/,
    ],
    [
      "a cycle",
      `${HEAD}services:\n  a: { command: [a], depends_on: [b] }\n  b: { command: [a], depends_on: [c] }\n  c: { command: [a], depends_on: [b] }\n`,
      /^E_CONFIG_DEPENDENCY 7:\d+: depends_on forms a cycle: b -> c -> b/,
    ],
    [
      "a service that depends on itself",
      `${HEAD}services:\n  a: { command: [a], depends_on: [a] }\n`,
      /^E_CONFIG_DEPENDENCY .*a -> a/,
    ],
    [
      "health of a service without a check",
      `${HEAD}services:\n  a: { command: [a], depends_on: { b: { condition: service_healthy } } }\n  b: { command: [a] }\n`,
      /^E_CONFIG_DEPENDENCY 6:\d+: b has no healthcheck/,
    ],
    [
      "a duplicate host port",
      `${HEAD}${SERVICE}ports: ["8080:80", "127.0.0.1:8080:81"]\n`,
      /^E_CONFIG_PORT 8:\d+: ports\.1: 127\.0\.0\.1:8080:81 publishes the port of ports\.0 again/,
    ],
    [
      "a malformed port",
      `${HEAD}${SERVICE}ports: ["80800:80"]\n`,
      /^E_CONFIG_PORT 8:9: ports\.0: "80800:80" is no port mapping/,
    ],
    [
      "a missing file to copy",
      `${HEAD}  copy: [{ from: ./nowhere, to: /x }]\n${SERVICE}`,
      /^E_CONFIG_FILE_MISSING 5:18: image\.copy\.0\.from: .*nowhere.*ENOENT/,
    ],
    [
      "a copy target with ..",
      `${HEAD}  copy: [{ from: ./app, to: /x/../y }]\n${SERVICE}`,
      /^E_CONFIG_INVALID 5:/,
    ],
    ["no service on a base without a command", HEAD, /^E_CONFIG_INVALID .*at least one service/],
    [
      "a service without a command",
      `${HEAD}services:\n  web: {}\n`,
      /^E_CONFIG_INVALID .*command is required/,
    ],
    ["too little memory", `${HEAD}${SERVICE}resources: { memory: 1MiB }\n`, /^E_CONFIG_INVALID .*64MiB/],
    [
      "one uid in production",
      `${HEAD.replace("development", "production")}${SERVICE}local: { single_user: true }\n`,
      /^E_CONFIG_INVALID 8:\d+: local\.single_user: /,
    ],
    [
      "an option in the place of a package",
      HEAD.replace("redis-server", "--yes") + SERVICE,
      /^E_CONFIG_INVALID .*"?.*Debian package/,
    ],
  ];
  test.each(cases)("%s", async (_title, text, expected) => {
    expect(await refusal(text)).toMatch(expected);
  });
});

test("refuses a file that does not exist, is a directory, is too large or is not UTF-8", async () => {
  await expect(loadEnclaveSpec(join(directory, "none.yaml"))).rejects.toMatchObject({
    code: "E_CONFIG_NOT_FOUND",
  });
  await expect(loadEnclaveSpec(directory)).rejects.toMatchObject({ code: "E_CONFIG_NOT_FOUND" });
  const path = join(directory, "odd.yaml");
  await writeFile(path, "x".repeat(1024 * 1024 + 1));
  await expect(loadEnclaveSpec(path)).rejects.toMatchObject({ code: "E_CONFIG_TOO_LARGE" });
  await writeFile(path, Buffer.from([0x61, 0x3a, 0xff]));
  await expect(loadEnclaveSpec(path)).rejects.toMatchObject({ code: "E_CONFIG_SYNTAX" });
});

test("refuses an alias bomb quickly", async () => {
  const levels = Array.from(
    { length: 12 },
    (_, i) => `l${i + 1}: &l${i + 1} [${Array(9).fill(`*l${i}`).join(", ")}]`,
  );
  expect(await refusal(`l0: &l0 [x]\n${levels.join("\n")}\n`)).toMatch(/^E_CONFIG_/);
});

test("any text is either a spec or a coded refusal", async () => {
  const words = fc.constantFrom(
    "name",
    "mode",
    "image",
    "base",
    "services",
    ": ",
    "\n",
    "  ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a",
    "*a",
    '"',
    "!!str",
    "development",
    "0x10",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(words).map((parts) => parts.join("")),
    fc.array(words).map((parts) => HEAD + parts.join("")),
  );
  await fc.assert(
    fc.asyncProperty(text, async (yaml) => {
      await load(yaml).catch((error: unknown) => expect(error).toBeInstanceOf(KitError));
    }),
    { numRuns: 200 },
  );
});

test("the examples are valid", async () => {
  for (const name of ["hello", "counter"]) {
    const spec = await loadEnclaveSpec(
      join(import.meta.dirname, "..", "..", "examples", name, "enclave.yaml"),
    );
    expect(spec.name).toBe(name);
    expect(spec.image.base.kind).not.toBe("host");
  }
});

test("reads what belongs to attestation", async () => {
  const spec = await load(
    `${HEAD}${SERVICE}    nsm: true\nattestation: { publish: "8443", provider: nitro }\n`,
  );
  expect(spec).toMatchObject({ attestation: "nitro", clientCa: null, services: [{ nsm: true }] });
  expect(spec.attestationPort).toEqual({ hostAddress: "127.0.0.1", hostPort: 8443 });
  expect(await refusal(`${HEAD}${SERVICE}attestation: { publish: "1:2" }\n`)).toMatch(
    /^E_CONFIG_PORT 8:\d+: attestation\.publish: "1:2" is no place to publish/,
  );
});

test("only certificates of authorities get into an image, and no key that lies beside them", async () => {
  const openssl = (...words: string[]) => promisify(execFile)("openssl", words);
  const [key, ca, leaf] = ["ca.key", "ca.pem", "leaf.pem"].map((name) => join(directory, name));
  const make = async (to = "", constraint: string) =>
    await openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key ?? "",
      "-out", to, "-subj", "/CN=clients", "-days", "1", "-addext", `basicConstraints=critical,CA:${constraint}`); // prettier-ignore
  await make(leaf, "FALSE");
  await make(ca, "TRUE");
  await appendFile(ca ?? "", await readFile(key ?? ""));
  const { clientCa } = await load(`${HEAD}${SERVICE}attestation: { client_ca: ./ca.pem }\n`);
  expect(clientCa).toMatch(/^-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n$/);
  expect(await refusal(`${HEAD}${SERVICE}attestation: { client_ca: ./leaf.pem }\n`)).toMatch(
    /^E_CONFIG_INVALID .*attestation\.client_ca: CN=clients .*is no certificate authority/,
  );
  expect(await refusal(`${HEAD}${SERVICE}attestation: { client_ca: ./ca.key }\n`)).toContain(
    "has 0 certificates",
  );
  expect(await refusal(`${HEAD}${SERVICE}attestation: { client_ca: ./none }\n`)).toContain(
    "E_CONFIG_FILE_MISSING",
  );
});
