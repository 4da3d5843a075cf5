/** What a service of an ordinary enclave.yaml, with no key about security in it, cannot do. */
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { SYSCALL_NUMBERS } from "../../enclave/seccomp/syscall-numbers.ts";
import { fetchText, openTestbed, ROOT, runCommand, StatusJson, type Testbed } from "./testbed.ts";

const isRoot = process.getuid?.() === 0;
const isX64 = process.arch === "x64";
const AF = { unix: 1, inet: 2, netlink: 16, packet: 17, alg: 38, vsock: 40 } as const;
const EPERM = constants.errno.EPERM;
const EAFNOSUPPORT = constants.errno.EAFNOSUPPORT;
const PTRACE_ATTACH = 16;
const CLONE_NEWUSER = 0x1000_0000;
const SIGSYS = `signal ${constants.signals.SIGSYS}`;

const ENCLAVE = `name: confined
mode: development
image: { base: { debian: [] }, copy: [{ from: ./app, to: /app }] }
resources: { memory: 512MiB }
services:
  probe:
    command: [node, /app/probe.js]
    environment: { PORT: "8080" }
    healthcheck: { tcp: 8080 }
  neighbour:
    command: [sleep, infinity]
    environment: { SECRET: of-the-neighbour }
ports: ["127.0.0.1:0:8080"]
`;

let directory: string;
let bed: Testbed;
let port: number;
let neighbourPid: number;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "confined-"));
  const app = join(directory, "app");
  await mkdir(app);
  await copyFile(join(ROOT, "test", "fixtures", "e2e", "probe", "app", "probe.js"), join(app, "probe.js"));
  const source = join(ROOT, "test", "fixtures", "enclave", "seccomp-probe.c");
  await runCommand(["cc", "-static", "-O1", "-o", join(app, "attempt"), source]);
  await writeFile(join(directory, "enclave.yaml"), ENCLAVE);
  bed = await openTestbed();
  const up = await bed.succeed("up", join(directory, "enclave.yaml"), "-d", "--json");
  const status = StatusJson.parse(JSON.parse(up));
  port = status.ports[0]?.hostPort ?? 0;
  neighbourPid = status.services.find((service) => service.name === "neighbour")?.pid ?? 0;
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

/** Runs a shell script inside the service. */
async function sh(script: string): Promise<{ readonly status: number | null; readonly output: string }> {
  const query = ["sh", "-c", script].map((word) => `arg=${encodeURIComponent(word)}`).join("&");
  return z
    .object({ status: z.number().nullable(), output: z.string() })
    .parse(JSON.parse(await fetchText(port, `/run?${query}`)));
}

/** What the kernel answers to one attempt of the service. */
async function attempt(line: string): Promise<string> {
  return (await sh(`echo '${line}' | /app/attempt - calls`)).output.trim();
}

async function call(name: keyof typeof SYSCALL_NUMBERS, ...values: number[]): Promise<string> {
  const known: { readonly x64: number; readonly arm64?: number } = SYSCALL_NUMBERS[name];
  const number = (isX64 ? known.x64 : known.arm64) ?? -1;
  return await attempt(["call", number, ...values].join(" "));
}

test("sockets to the host, to the kernel and to raw packets are refused, ordinary ones are not", async () => {
  for (const domain of [AF.vsock, AF.netlink, AF.packet, AF.alg])
    expect(await call("socket", domain, 1, 0), `domain ${domain}`).toBe(`errno ${EAFNOSUPPORT}`);
  expect(await call("socket", AF.inet, 1, 0)).toBe("ok");
  expect(await call("socket", AF.unix, 1, 0)).toBe("ok");
});

test("io_uring, which no filter of sockets can see into, is refused", async () => {
  expect(await call("io_uring_setup", 8, 0)).toBe(`errno ${EPERM}`);
  expect(await attempt(`uring ${AF.vsock}`)).toBe(`errno ${EPERM}`);
});

test("mounts, namespaces and other ids are refused", async () => {
  expect(await call("mount", 0, 0, 0, 0, 0)).toBe(`errno ${EPERM}`);
  expect(await call("unshare", CLONE_NEWUSER)).toBe(`errno ${EPERM}`);
  expect(await call("setuid", 0)).toBe(isRoot ? `errno ${EPERM}` : "ok"); // 0 is what the one uid is
  expect(await call("setuid", 12)).toBe(`errno ${EPERM}`);
});

test.runIf(isX64)("calls of foreign architectures kill", async () => {
  expect(await attempt("int80 20")).toBe(SIGSYS);
  expect(await attempt(`call ${0x4000_0000 + 39}`)).toBe(SIGSYS);
});

test("it has no capability, and can get none", async () => {
  const { output } = await sh("cat /proc/self/status");
  const fields = Object.fromEntries(
    output
      .trim()
      .split("\n")
      .map((line) => line.split(/:\s+/)),
  );
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    expect(fields[set], set).toBe("0000000000000000");
  expect(fields).toMatchObject({ NoNewPrivs: "1", Seccomp: "2" });
});

describe("a neighbour", () => {
  test("cannot be traced", async () => {
    expect(neighbourPid).toBeGreaterThan(1);
    expect(await call("ptrace", PTRACE_ATTACH, neighbourPid, 0, 0)).toBe(`errno ${EPERM}`);
  });

  test.skipIf(!isRoot)(
    "keeps its environment and its memory to itself, and cannot be signalled",
    async () => {
      for (const file of ["environ", "mem", "fd/0"]) {
        const { status, output } = await sh(`cat /proc/${neighbourPid}/${file}`);
        expect({ file, status }).toEqual({ file, status: 1 });
        expect(output).toMatch(/Permission denied/);
      }
      expect((await sh(`kill -9 ${neighbourPid}`)).status).not.toBe(0);
      expect((await bed.status("confined")).services.map((service) => service.restarts)).toEqual([0, 0]);
    },
  );
});

describe("the enclave's own", () => {
  test("devices are not there", async () => {
    const devices = (await sh("ls -A /dev")).output.trim().split("\n");
    const known = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]; // prettier-ignore
    expect(devices.filter((name) => !known.includes(name))).toEqual([]);
    expect(devices).toContain("null");
    expect((await sh("cat /dev/nsm")).output).toMatch(/No such file/);
  });

  test("sockets and files cannot be reached", async () => {
    expect((await sh("ls -A /run/enclave")).output).toBe("");
    const connect = `require("net").connect("/run/enclave/control/control.sock").on("error", (e) => console.log(e.code))`;
    expect((await sh(`node -e '${connect}'`)).output.trim()).toMatch(/ENOENT|EACCES/);
    if (isRoot) expect((await sh("cat /opt/enclave/enclave.json")).output).toMatch(/Permission denied/);
    // With one user id the signal may be sent, and init is out of its reach as any PID 1 is.
    if (isRoot) expect((await sh("kill -9 1")).status).not.toBe(0);
    expect((await sh("echo 1 > /proc/sys/kernel/panic")).output).toMatch(/denied|Read-only/);
    expect((await sh("mkdir /sys/fs/cgroup/x")).output).toMatch(/denied|Read-only|cannot create/);
  });
});

test("what it is for works: files, threads, children, servers", async () => {
  const script = `
    const { execFileSync } = require("node:child_process");
    const { writeFileSync } = require("node:fs");
    const { Worker } = require("node:worker_threads");
    writeFileSync("/tmp/mine", "x");
    new Worker("process.exit(0)", { eval: true }).on("exit", () =>
      require("node:net").createServer().listen(80, "0.0.0.0", function () {
        console.log(execFileSync("cat", ["/tmp/mine"]).toString(), this.address().port);
        this.close();
      }));`;
  expect(await sh(`node -e '${script.replaceAll("\n", " ")}'`)).toEqual({ status: 0, output: "x 80\n" });
});
