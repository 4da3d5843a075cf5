/** What a service finds around it, what it cannot do, and what happens when it goes beyond a limit. */
import { constants } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { SYSCALL_NUMBERS } from "../../enclave/seccomp/syscall-numbers.ts";
import { BACKENDS } from "./backends.ts";
import { type ComplianceEnclave, OPEN_TIMEOUT_MS, prepareEnclave, TEST_TIMEOUT_MS } from "./compliance-bed.ts"; // prettier-ignore
import { whyLacking } from "./differences.ts";
import { testLimits } from "./limit-tests.ts";
import { testOwnDeaths } from "./own-death-tests.ts";

const PROGRAMS = { attempt: "enclave/seccomp-probe.c", foreign: "e2e/foreign-call.c" };
const AF = { unix: 1, inet: 2, netlink: 16, packet: 17, alg: 38, vsock: 40 } as const;
const PTRACE_ATTACH = 16;
const CLONE_NEWUSER = 0x1000_0000;
/** A guest's clock starts with the host's, and nobody has set it since. */
const CLOCK_TOLERANCE_S = 10;
const { EPERM, EAFNOSUPPORT } = constants.errno;

describe.each(BACKENDS)("the walls of a service on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;

  /** Runs a program as a child of the service. */
  const run = async (...words: string[]) => await enclave.runInService(...words);
  const sh = async (script: string) => await run("sh", "-c", script);
  const attempt = async (line: string) => (await sh(`echo '${line}' | /app/attempt - calls`)).output.trim();
  const call = async (name: keyof typeof SYSCALL_NUMBERS, ...values: number[]) => {
    const known: { readonly x64: number; readonly arm64?: number } = SYSCALL_NUMBERS[name];
    const number = (process.arch === "x64" ? known.x64 : known.arm64) ?? -1;
    return await attempt(["call", number, ...values].join(" "));
  };

  beforeAll(async () => {
    enclave = await prepareEnclave(backend, "walls", PROGRAMS);
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  describe("it finds", () => {
    test("no interface but loopback, and nothing beyond it reaches a service of the enclave by mistake", async () => {
      const devices = (await sh("cat /proc/net/dev")).output.trim().split("\n").slice(2);
      expect(devices.map((line) => line.split(":", 1)[0]?.trim())).toEqual(["lo"]);
      const script = `
        const net = require("node:net");
        const server = net.createServer(() => console.log("reached"));
        server.listen(4443, "0.0.0.0", () => net.connect(4443, "198.18.0.5").resume()
          .on("error", (e) => { console.log(e.code); server.close(); }));`;
      expect(await run("node", "-e", script)).toEqual({ status: 0, output: "ECONNRESET\n" });
    });

    test("no way out: every address refuses, and no names but localhost", async () => {
      const script = `
        const dns = require("node:dns"), net = require("node:net");
        net.connect(443, "192.0.2.1").on("error", (e) => console.log(e.code));
        dns.lookup("localhost", 4, (e, address) => console.log(address));
        dns.lookup("example.org", (e) => console.log(e.syscall, e.code));`;
      const { output } = await run("node", "-e", script);
      expect(output.trim().split("\n").sort()).toEqual(["127.0.0.1", "ECONNRESET", "getaddrinfo ENOTFOUND"]);
    });

    test("our init as PID 1, its enclave's name, and the time", async () => {
      expect((await sh("tr '\\0' '\\n' < /proc/1/cmdline | head -n 1")).output).toMatch(
        /^(\/opt\/enclave)?\/init\n$/,
      );
      expect((await sh("cat /etc/hostname /proc/sys/kernel/hostname")).output).toBe("walls\nwalls\n");
      const seconds = Number((await sh("date +%s")).output);
      expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(CLOCK_TOLERANCE_S);
    });

    test("files with the owners and modes that the image tells", async () => {
      const script = "stat -c '%A %u %g %n' /app /app/probe.js /app/attempt /tmp /etc/passwd";
      expect((await sh(script)).output.trim().split("\n")).toEqual([
        "drwxr-xr-x 0 0 /app",
        "-rw-r--r-- 0 0 /app/probe.js",
        "-rwxr-xr-x 0 0 /app/attempt",
        "drwxrwxrwt 0 0 /tmp",
        "-rw-r--r-- 0 0 /etc/passwd",
      ]);
    });

    test("only the devices that it needs, and no NSM", async () => {
      const devices = (await sh("ls -A /dev")).output.trim().split("\n");
      const known = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]; // prettier-ignore
      expect(devices.filter((name) => !known.includes(name))).toEqual([]);
      expect((await sh("head -c 16 /dev/urandom | wc -c")).output).toBe("16\n");
    });

    test("three descriptors, and its own environment", async () => {
      expect((await sh("ls /proc/self/fd")).output.trim().split(/\s+/)).toEqual(["0", "1", "2", "3"]);
      const names = (await sh("tr '\\0' '\\n' < /proc/$PPID/environ | cut -d= -f1 | sort")).output;
      expect(names.trim().split("\n")).toEqual(["HOME", "PATH", "PORT", "USER"]);
    });

    test("a root file system that it can write to where root lets it, and that the image never sees", async () => {
      expect((await sh("echo mine > /var/tmp/mine && cat /var/tmp/mine")).output).toBe("mine\n");
      expect(await enclave.sh("echo changed >> /etc/hosts && tail -n 1 /etc/hosts")).toBe("changed\n");
    });
  });

  describe("it cannot", () => {
    test("open sockets to the host, to the kernel or to raw packets, while ordinary ones work", async () => {
      for (const domain of [AF.vsock, AF.netlink, AF.packet, AF.alg])
        expect(await call("socket", domain, 1, 0), `domain ${domain}`).toBe(`errno ${EAFNOSUPPORT}`);
      for (const domain of [AF.inet, AF.unix]) expect(await call("socket", domain, 1, 0)).toBe("ok");
    });

    test("mount, unshare, use io_uring, trace a neighbour or take another uid", async () => {
      const neighbour = (await enclave.service("neighbour")).pid ?? 0;
      expect(neighbour).toBeGreaterThan(1);
      expect(await call("mount", 0, 0, 0, 0, 0)).toBe(`errno ${EPERM}`);
      expect(await call("unshare", CLONE_NEWUSER)).toBe(`errno ${EPERM}`);
      expect(await call("io_uring_setup", 8, 0)).toBe(`errno ${EPERM}`);
      expect(await call("ptrace", PTRACE_ATTACH, neighbour, 0, 0)).toBe(`errno ${EPERM}`);
      expect(await call("setuid", 12)).toBe(`errno ${EPERM}`);
    });

    test.runIf(process.arch === "x64")("make calls of foreign architectures and live", async () => {
      const { SIGSYS, SIGSEGV } = constants.signals;
      // A kernel without calls of i386 has no gate for them, which is a fault before any filter is asked.
      expect([`signal ${SIGSYS}`, `signal ${SIGSEGV}`]).toContain(await attempt("int80 20"));
      expect(await attempt(`call ${0x4000_0000 + 39}`)).toBe(`signal ${SIGSYS}`);
    });

    test("have a capability, or get one", async () => {
      const { output } = await sh("cat /proc/self/status");
      for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
        expect(output).toMatch(new RegExp(`^${set}:\\t0{16}$`, "m"));
      expect(output).toMatch(/^NoNewPrivs:\t1$/m);
      expect(output).toMatch(/^Seccomp:\t2$/m);
    });

    test("write where the kernel or the enclave keeps its own", async () => {
      for (const file of ["/proc/sys/kernel/panic", "/proc/sysrq-trigger"]) {
        const { status, output } = await sh(`echo 1 > ${file}`);
        expect({ file, failed: status !== 0 }).toEqual({ file, failed: true });
        expect(output).toMatch(/denied|Read-only|cannot create/);
      }
      expect((await sh("mkdir /sys/fs/cgroup/mine")).status).not.toBe(0);
      expect((await sh("ls -A /run/enclave")).output).toBe("");
    });

    test("read a neighbour's secrets, signal it or init, or touch the enclave's own files", async ({
      skip,
    }) => {
      const why = whyLacking(backend, "users");
      skip(why !== undefined, why);
      const neighbour = (await enclave.service("neighbour")).pid ?? 0;
      for (const file of [
        `/proc/${neighbour}/environ`,
        `/proc/${neighbour}/mem`,
        "/opt/enclave/enclave.json",
      ]) {
        const { status, output } = await sh(`cat ${file}`);
        expect({ file, status }).toEqual({ file, status: 1 });
        expect(output).toMatch(/Permission denied/);
      }
      expect((await sh("echo 1 > /opt/enclave/mine")).output).toMatch(/Permission denied|Read-only/);
      for (const pid of [1, neighbour]) expect((await sh(`kill -9 ${pid}`)).status, String(pid)).not.toBe(0);
      expect((await enclave.service("neighbour")).restarts).toBe(0);
    });
  });

  describe("beyond a limit", () => testLimits(backend, () => enclave));
  describe("when the enclave's own processes die", () => testOwnDeaths(() => enclave));
});
