/** A running enclave as its operator lives with it: the whole way through bin/, runner, vsock, gateway and supervisor. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, mkdir, mkdtemp, open, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { findPart, PARTS } from "./enclave-processes.ts";
import { openTestbed, ROOT, runCommand, type Testbed, waitFor } from "./testbed.ts";

const COUNTER = join(ROOT, "examples", "counter", "enclave.yaml");
const MIB = 1024 ** 2;
const isRoot = process.getuid?.() === 0;

let bed: Testbed;
let directory: string;

beforeAll(async () => {
  bed = await openTestbed();
  directory = await mkdtemp(join(tmpdir(), "operate-"));
  await bed.succeed("up", COUNTER, "-d", "-p", "127.0.0.1:0:8080");
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function pidOf(name: string): Promise<number> {
  const { services } = await bed.initctlStatus("counter");
  return services.find((service) => service.name === name)?.pid ?? 0;
}

describe("initctl", () => {
  test("status shows both services, on the host and inside", async () => {
    // The attestation server is the last to come up.
    const status = await waitFor("the attestation server", async () => {
      const one = await bed.initctlStatus("counter");
      return one.attestationServer.state === "ready" ? one : undefined;
    });
    expect(status.services.map(({ name, state, health }) => [name, state, health])).toEqual([
      ["redis", "running", "healthy"],
      ["web", "running", "healthy"],
    ]);
    const inside = JSON.parse(await bed.succeed("exec", "counter", "--", "initctl", "status", "--json"));
    expect(inside).toEqual(status);
  });

  test("restart of redis leads to a healthy web service again, which keeps its pid", async () => {
    const [web, redis] = [await pidOf("web"), await pidOf("redis")];
    await bed.initctl("restart", "redis", "--enclave", "counter");
    const { services } = await bed.initctlStatus("counter");
    expect(services.map((service) => service.health)).toEqual(["healthy", "healthy"]);
    expect(await pidOf("web")).toBe(web);
    expect(await pidOf("redis")).not.toBe(redis);
  });

  test("stop and start say what a service is, and is-active asks", async () => {
    await bed.initctl("stop", "web", "--enclave", "counter");
    expect((await bed.runInitctl("is-active", "web", "--enclave", "counter")).status).toBe(3);
    await bed.initctl("start", "web", "--enclave", "counter");
    expect((await bed.runInitctl("is-active", "web", "--enclave", "counter")).status).toBe(0);
  });

  test("a service that does not exist is named with the one that was meant", async () => {
    const refused = await bed.runInitctl("restart", "rediss", "--enclave", "counter");
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toMatch(/E_SERVICE_UNKNOWN[^]*redis/);
  });
});

describe("exec", () => {
  test.each([
    ["sh -c", ["sh", "-c", "exit 7"], 7],
    ["a signal", ["sh", "-c", "kill -TERM $$"], 143],
    ["no program", ["no-such-program"], 127],
    ["no permission", ["/etc/passwd"], 126],
  ])("ends as its command does: %s", async (_name, command, status) => {
    expect((await bed.run("exec", "counter", "--", ...command)).status).toBe(status);
  });

  test("keeps output and errors apart", async () => {
    const { stdout, stderr } = await bed.run("exec", "counter", "--", "sh", "-c", "echo out; echo err >&2");
    expect({ stdout, stderr }).toEqual({ stdout: "out\n", stderr: "err\n" });
  });

  test.skipIf(!isRoot)("runs as a service, with what confines it", async () => {
    const script = "id -un; cat /proc/self/status; ls /run/enclave";
    const output = await bed.succeed("exec", "--service", "redis", "counter", "--", "sh", "-c", script);
    expect(output).toMatch(/^redis\n/);
    expect(output).toMatch(/CapBnd:\t0+\n/);
    expect(output).toMatch(/Seccomp:\t2\n/);
  });

  test("-it is a terminal: sizes, Ctrl-C, job control, exit status", async () => {
    const script = join(ROOT, "test", "fixtures", "compliance", "terminal.py");
    const command = bed.commandLine(["exec", "-it", "counter", "--", "sh"]);
    const { status, stdout, stderr } = await runCommand(["python3", script, ...command]);
    expect({ status, stderr }).toEqual({ status: 5, stderr: "" });
    expect(stdout).toMatch(/\/dev\/pts\/\d+\r\n30 100\r\n/);
    expect(stdout).toMatch(/interrupted by 130\r\n/);
    expect(stdout).toMatch(/40 120\r\n/);
    expect(stdout).not.toMatch(/can't access tty/);
  });
});

describe("cp", () => {
  test("a gigabyte goes in and out unharmed, and neither gateway nor supervisor grows", async () => {
    const file = join(directory, "gigabyte");
    const digest = await writeNoise(file, 1024);
    const yaml = join(directory, "roomy.yaml");
    const service = "services: { a: { command: [sleep, infinity] } }";
    const image = "image: { base: { debian: [] } }\nresources: { memory: 3GiB }";
    await writeFile(yaml, `name: roomy\nmode: development\n${image}\n${service}\n`);
    await using bed = await openTestbed();
    await bed.succeed("up", yaml, "-d");
    const memory = async (): Promise<number> =>
      (await residentMib(bed, PARTS.gateway)) + (await residentMib(bed, PARTS.supervisor));
    // The first copy fills the pools of the processes; what grows with the size would go on growing.
    await bed.succeed("cp", file, "roomy:/root/");
    const before = await memory();
    await bed.succeed("cp", "roomy:/root/gigabyte", join(directory, "back"));
    await bed.succeed("cp", file, "roomy:/root/");
    expect(await digestOf(join(directory, "back"))).toBe(digest);
    expect((await memory()) - before).toBeLessThan(48);
  }, 120_000);

  test("a tree keeps its modes and links", async () => {
    const tree = join(directory, "tree");
    await mkdir(join(tree, "below"), { recursive: true });
    await writeFile(join(tree, "below", "program"), "#!/bin/sh\necho it runs\n");
    await chmod(join(tree, "below", "program"), 0o750);
    await symlink("below/program", join(tree, "link"));
    await bed.succeed("cp", tree, "counter:/opt/copied");
    expect(await bed.succeed("exec", "counter", "--", "/opt/copied/link")).toBe("it runs\n");
    await bed.succeed("cp", "counter:/opt/copied", join(directory, "again"));
    expect((await stat(join(directory, "again", "below", "program"))).mode & 0o777).toBe(0o750);
  });

  test.each([
    ["what does not exist", ["counter:/no/such", "/tmp/"], /E_ARCHIVE_NOT_FOUND/],
    ["a device", ["counter:/dev/null", "/tmp/"], /E_ARCHIVE_ENTRY/],
    ["into nowhere", [COUNTER, "counter:/no/such/place/file"], /E_ARCHIVE_DESTINATION/],
  ])("refuses %s with its reason", async (_name, operands, message) => {
    const { status, stderr } = await bed.run("cp", ...operands);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});

test("stats tell what services use, and events what happened", async () => {
  const stats = JSON.parse(await bed.succeed("stats", "counter", "--no-stream", "--json"));
  expect(JSON.stringify(stats)).toContain('"redis"');
  expect(await bed.succeed("events", "counter")).toMatch(/redis +.*stopped_by_operator/);
});

test("a running enclave cannot be looked into in production", async () => {
  const file = join(directory, "production.yaml");
  const service = `services: { a: { command: [sleep, infinity] } }\nresources: { memory: 512MiB }\n`;
  await writeFile(file, `name: closed\nmode: production\nimage: { base: { debian: [] } }\n${service}`);
  if (!isRoot) return; // one user id is refused before
  await bed.succeed("up", file, "-d");
  for (const words of [
    ["exec", "closed", "--", "true"],
    ["cp", "closed:/etc/passwd", "/tmp/"],
    ["events", "closed"],
  ]) {
    const { status, stderr } = await bed.run(...words);
    expect(status).not.toBe(0);
    expect(stderr).toContain("E_CONTROL_CLOSED");
  }
  await bed.succeed("down", "closed");
});

test("a gateway that hangs is killed and replaced, and the services go on", async () => {
  const redis = await pidOf("redis");
  const gateway = await waitFor("the gateway", async () => await findPart(bed, PARTS.gateway));
  process.kill(gateway, "SIGSTOP");
  await waitFor(
    "the next gateway",
    async () => ((await findPart(bed, PARTS.gateway)) === gateway ? undefined : true),
    30_000,
  );
  expect(await pidOf("redis")).toBe(redis);
}, 60_000);

async function writeNoise(path: string, sizeMib: number): Promise<string> {
  const hash = createHash("sha256");
  await using file = await open(path, "w");
  const block = Buffer.alloc(MIB);
  for (let index = 0; index < sizeMib; index += 1) {
    crypto.getRandomValues(block.subarray(0, 65_536));
    block.writeUInt32BE(index, MIB - 4);
    hash.update(block);
    await file.write(block);
  }
  return hash.digest("hex");
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: MIB })) {
    if (Buffer.isBuffer(chunk)) hash.update(chunk);
  }
  return hash.digest("hex");
}

async function residentMib(bed: Testbed, part: RegExp): Promise<number> {
  const pid = await findPart(bed, part);
  const text = await readFile(`/proc/${pid ?? 0}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1] ?? Number.NaN) / 1024;
}
