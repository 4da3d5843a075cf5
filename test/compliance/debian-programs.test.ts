/** Programs as Debian packs them, without proxy settings or changes, through the rules of an enclave. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { NetworkReportSchema } from "../../wire/network-schemas.ts";
import { openTestbed, runCommand, type Testbed } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import { OPEN_TIMEOUT_MS, TEST_TIMEOUT_MS } from "./compliance-bed.ts";
import { ProgramServers } from "./program-servers.ts";

const HAS_USERS = process.getuid?.() === 0;
const PACKAGES =
  "curl, wget, redis-tools, postgresql-client, openssh-client, git, python3, ca-certificates, apt";
const SSH = "ssh -i /tmp/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes";
const APT =
  `apt-get -q -o Dir::Etc::sourcelist=/tmp/apt.list -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=$(id -un)
 -o Dir::State=/tmp/apt/state -o Dir::Cache=/tmp/apt/cache -o Debug::NoLocking=1 -o Acquire::Retries=0`.replaceAll(
    "\n",
    "",
  );
const FETCH = `fetch(process.argv[1]).then((r) => r.text()).then(console.log, (e) => { console.error(e.cause?.code ?? e); process.exit(1); })`;
const URLLIB = `import sys, ssl, urllib.request as u; print(u.urlopen(sys.argv[1], context=ssl.create_default_context(cafile="/app/ca.pem")).read().decode())`;

interface Case {
  readonly name: string;
  /** A shell command; HOST and PORT stand for a target. */
  readonly command: string;
  readonly host: string;
  readonly port: number;
  readonly says: RegExp;
  /** Needs more than one uid on the servers' side. */
  readonly users?: true;
}

const CASES: readonly Case[] = [
  {
    name: "curl over HTTP",
    command: "curl -sS http://HOST:PORT/hello",
    host: "web.test",
    port: 80,
    says: /hello web\.test/,
  },
  {
    name: "curl over HTTPS",
    command: "curl -sS --cacert /app/ca.pem https://HOST:PORT/hello",
    host: "web.test",
    port: 443,
    says: /hello web\.test/,
  },
  {
    name: "wget",
    command: "wget -q -O - --tries=1 --ca-certificate=/app/ca.pem https://HOST:PORT/hello",
    host: "web.test",
    port: 443,
    says: /hello web\.test/,
  },
  {
    name: "redis-cli",
    command: "redis-cli -e -h HOST -p PORT PING",
    host: "cache.test",
    port: 6379,
    says: /PONG/,
  },
  {
    name: "psql",
    command: "psql -h HOST -p PORT -U postgres -tAc 'select 6*7'",
    host: "db.test",
    port: 5432,
    says: /42/,
    users: true,
  },
  {
    name: "ssh",
    command: `${SSH} -p PORT postgres@HOST echo over-ssh`,
    host: "git.test",
    port: 22,
    says: /over-ssh/,
    users: true,
  },
  {
    name: "git over HTTPS",
    command:
      "rm -rf /tmp/c1; git -c http.sslCAInfo=/app/ca.pem clone -q https://HOST:PORT/repo.git /tmp/c1 && cat /tmp/c1/README",
    host: "git.test",
    port: 443,
    says: /from git/,
  },
  {
    name: "git over ssh",
    command: `rm -rf /tmp/c2; GIT_SSH_COMMAND='${SSH}' git clone -q ssh://postgres@HOST:PORT/tmp/repo.git /tmp/c2 && cat /tmp/c2/README`,
    host: "git.test",
    port: 22,
    says: /from git over ssh/,
    users: true,
  },
  {
    name: "apt",
    command: `mkdir -p /tmp/apt/state/lists/partial /tmp/apt/cache/archives/partial; echo 'deb [trusted=yes] http://HOST:PORT/apt ./' > /tmp/apt.list; ${APT} -o APT::Update::Error-Mode=any update && cd /tmp && ${APT} download came && dpkg-deb -c came_1.0_all.deb`,
    host: "mirror.test",
    port: 80,
    says: /opt\/came/,
  },
  {
    name: "Node's fetch",
    command: `NODE_EXTRA_CA_CERTS=/app/ca.pem node -e '${FETCH}' https://HOST:PORT/hello`,
    host: "web.test",
    port: 443,
    says: /hello web\.test/,
  },
  {
    name: "Python's urllib",
    command: `python3 -c '${URLLIB}' https://HOST:PORT/hello`,
    host: "web.test",
    port: 443,
    says: /hello web\.test/,
  },
];

const Network = z.object({ enclave: NetworkReportSchema });

describe.each(BACKENDS)("on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let servers: ProgramServers;
  let bed: Testbed;
  let directory: string;

  beforeAll(async () => {
    servers = await ProgramServers.open();
    bed = await openTestbed();
    directory = await mkdtemp(join(tmpdir(), "programs-"));
    await mkdir(join(directory, "app"));
    await writeFile(join(directory, "app", "ca.pem"), servers.authority);
    const { http, https, redis, postgres = 9, ssh = 9 } = servers.ports;
    const rule = (place: string, port: number): string => `  - { ${place}, connect_to: "127.0.0.1:${port}" }`;
    await writeFile(
      join(directory, "enclave.yaml"),
      `name: programs
mode: development
image: { base: { debian: [${PACKAGES}] }, copy: [{ from: ./app, to: /app }] }
resources: { memory: 2GiB }
services: { shell: { command: [sleep, infinity], user: www-data, environment: { HOME: /tmp } } }
egress:
${[
  rule("host: web.test, port: 80", http),
  rule("host: web.test, port: 443", https),
  rule("host: git.test, port: 443", https),
  rule('host: "mirror.test", port: 80', http),
  rule("host: cache.test, port: 6379", redis),
  rule("host: db.test, port: 5432", postgres),
  rule("host: git.test, port: 22", ssh),
].join("\n")}
local: { single_user: true }
`,
    );
    const up = ["up", join(directory, "enclave.yaml"), "-d", "--backend", backend, "--timeout", "240s"];
    const { status, stderr } = await runCommand(bed.commandLine(up), {}, OPEN_TIMEOUT_MS);
    if (status !== 0) throw new Error(stderr);
    const key = await shell("ssh-keygen -q -t ed25519 -N '' -f /tmp/key && cat /tmp/key.pub");
    if (HAS_USERS) await servers.trust(key.output.trim());
  }, OPEN_TIMEOUT_MS);
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
    await servers[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  /** Runs as the service does. The time is the command's own, by the clock inside. */
  const shell = async (script: string): Promise<{ status: number; output: string; ms: number }> => {
    const timed = `start=$(date +%s%N); { ${script}\n} 2>&1; code=$?; echo; echo "TOOK $code $(( ($(date +%s%N) - start) / 1000000 ))"`;
    const { stdout } = await bed.run("exec", "programs", "-s", "shell", "--", "sh", "-c", timed);
    const [, output = "", status = "-1", ms = "-1"] = /^([^]*)\nTOOK ([0-9]+) ([0-9]+)\n$/.exec(stdout) ?? [];
    return { status: Number(status), output, ms: Number(ms) };
  };
  const aim = ({ command }: Case, host: string, port: number): string =>
    command.replaceAll("HOST", host).replaceAll("PORT", String(port));
  const denials = async () =>
    Network.parse(JSON.parse(await bed.succeed("net", "programs", "--json"))).enclave.denials;

  describe.each(CASES)("$name", (program) => {
    test.skipIf(program.users === true && !HAS_USERS)("works where a rule allows it", async () => {
      const { status, output } = await shell(aim(program, program.host, program.port));
      expect(output).toMatch(program.says);
      expect(status).toBe(0);
    });

    test.each([
      ["a name that no rule allows", "denied.test", (port: number) => port, (_host: string) => "denied.test"],
      ["a port that no rule allows", program.host, () => 4444, (host: string) => `${host}:4444`],
      [
        "an address",
        "192.0.2.1",
        (port: number) => port,
        (_host: string, port: number) => `192.0.2.1:${port}`,
      ],
    ])("fails at once for %s, and the denial is shown", async (_what, host, portOf, targetOf) => {
      const port = portOf(program.port);
      // What the program itself needs to start and to give up, which under emulation is most of it.
      const idle = await shell(aim(program, "localhost", 9));
      const { status, ms } = await shell(aim(program, host, port));
      expect(status).not.toBe(0);
      expect(ms).toBeLessThan(idle.ms + 1000);
      const found = (await denials()).find(({ target }) => target === targetOf(host, port));
      expect(found).toMatchObject({ reason: "no_rule", allow: expect.stringContaining(host) as string });
    });
  });
});
