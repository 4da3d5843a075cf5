import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

import { buildServiceFilter } from "../../enclave/seccomp/filter.ts";
import { fixturePath, Probe } from "./seccomp-probe.ts";

const FILTER = buildServiceFilter({
  architecture: process.arch === "arm64" ? "arm64" : "x64",
  identity: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
});

/** EPERM and EAFNOSUPPORT. */
const [NOT_PERMITTED, NO_FAMILY] = [1, 97];

const hasPython = await promisify(execFile)("python3", ["--version"]).then(
  () => true,
  () => false,
);

let probe: Probe;
beforeAll(async () => {
  probe = await Probe.open();
});
afterAll(() => probe[Symbol.asyncDispose]());

async function runJson(command: readonly string[]): Promise<unknown> {
  const { stdout, stderr, code, signal } = await probe.execute(FILTER, command);
  expect({ stderr, code, signal }).toEqual({ stderr: "", code: 0, signal: null });
  return JSON.parse(stdout);
}

test("Node does all its work behind the filter, but cannot list network interfaces", async () => {
  expect(await runJson([process.execPath, fixturePath("seccomp-workload.mjs")])).toEqual({
    worker: "from the worker",
    shell: "in",
    fork: "from the child",
    http: "hello",
    ipv6: "hello",
    unix: "hello",
    udp: true,
    watch: "file",
    crypto: [32, "public", "e3b0c442"],
    lookup: true,
    cpus: true,
    zip: true,
    interfaces: "ERR_SYSTEM_ERROR",
  });
});

test.skipIf(!hasPython)("so does Python, which may take the ids that it has and no other", async () => {
  expect(await runJson(["python3", fixturePath("seccomp-workload.py")])).toEqual({
    thread: "from the thread",
    process: "from the process",
    shell: "in",
    serve: "hello",
    pair: 2,
    addresses: true,
    asyncio: 0,
    ids: true,
    fifo: true,
    "other id": NOT_PERMITTED,
    interfaces: NO_FAMILY,
  });
});

test("a shell runs pipelines, background jobs, here-documents and traps", async () => {
  const script = `
    trap 'echo trapped' USR1; kill -USR1 $$
    (exit 7) & wait $!; echo $?
    printf 'b\\na\\n' | sort | head -n 1
    cat <<END
$(umask)
END
    exec 5>/dev/null; ls /proc/self/fd >&5 && echo done`;
  const { stdout, stderr, code } = await probe.execute(FILTER, ["sh", "-c", script]);
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  expect(stdout).toMatch(/^trapped\n7\na\n0\d+\ndone\n$/);
});

test("the filter stays with every program that a program starts", async () => {
  const status = "grep -h Seccomp: /proc/self/status";
  const { stdout } = await probe.execute(FILTER, ["sh", "-c", `${status}; sh -c '${status}'`]);
  expect(stdout).toBe("Seccomp:\t2\nSeccomp:\t2\n");
});
