/**
 * Version 2. Where the test machine mounts it without the controllers (a host with version 1), what needs none runs for
 * real: moving processes, killing, counting CPU time, removing. The files that limits are written to are then plain
 * files in a folder that is laid out as the kernel would have, and the test looks at which file got which text; that a
 * kernel acts on them is for a test in a virtual machine with version 2.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { createLog } from "../../core/log.ts";
import { killCgroup } from "../../enclave/cgroups/cgroup-killer.ts";
import { openCgroups } from "../../enclave/cgroups/cgroup-tree.ts";
import {
  compileWorkload,
  exists,
  findUnified,
  isAlive,
  makeTemporary,
  removeTree,
  runIn,
  SILENT,
  writeTree,
} from "./cgroup-fixtures.ts";
import { eventually } from "./eventually.ts";
import { isKitError } from "./kit-error.ts";

const MIB = 1024 ** 2;
const unified = await findUnified();
/** Needs root and a writable tree of version 2. */
const testUnified = test.skipIf(unified === undefined);

const owned = new AsyncDisposableStack();
let workload = "";
beforeAll(async () => {
  if (unified !== undefined) workload = await compileWorkload(owned.use(await makeTemporary()).path);
});
afterAll(async () => await owned.disposeAsync());

async function makeRoot(name: string): Promise<AsyncDisposable & { readonly path: string }> {
  const path = join(unified ?? "", `enclave-toolkit-test-${process.pid}-${name}`);
  await mkdir(path);
  return { path, [Symbol.asyncDispose]: async () => await removeTree(path) };
}

testUnified("processes of the root go aside, and services have folders of their own", async () => {
  await using root = await makeRoot("aside");
  await using first = runIn({ directories: [root.path] }, ["/bin/sleep", "1000"]);
  await using second = runIn({ directories: [root.path] }, ["/bin/sleep", "1000"]);
  const procs = join(root.path, "cgroup.procs");
  await eventually("both joined", async () => (await readFile(procs, "utf8")).split("\n").length === 3);
  const tree = await openCgroups({ root: root.path, log: SILENT });
  expect(await readFile(procs, "utf8")).toBe("");
  const moved = (await readFile(join(root.path, "system", "cgroup.procs"), "utf8")).trim().split("\n");
  expect(new Set(moved.map(Number))).toEqual(new Set([first.pid, second.pid]));
  expect(tree.controllers.cpuacct).toEqual({ available: true, why: null });
});

testUnified("what is in a service is killed at once, daemons too, and its cgroup goes", async () => {
  await using root = await makeRoot("kill");
  const tree = await openCgroups({ root: root.path, log: SILENT });
  const service = await tree.openService("web", { memoryBytes: 16 * MIB, pids: 9, cpus: 1 });
  if (service === undefined) throw new Error("no cgroup");
  expect(service.directories).toEqual([join(root.path, "services", "web.service")]);
  await using running = runIn(service, [workload, "daemon"]);
  const daemon = await eventually("the daemon", () => Number(running.text().trim()));
  await service.killAll();
  const [directory = ""] = service.directories;
  expect(await readFile(join(directory, "cgroup.events"), "utf8")).toContain("populated 0");
  await eventually("its end", () => !isAlive(daemon));
  await service.remove();
  expect(await exists(directory)).toBe(false);
});

testUnified("CPU time is counted without any controller", async () => {
  await using root = await makeRoot("cpu");
  const tree = await openCgroups({ root: root.path, log: SILENT });
  await using service = await tree.openService("web", {});
  if (service === undefined) throw new Error("no cgroup");
  await using running = runIn(service, [workload, "spin"]);
  await eventually("CPU time", async () => ((await service.readCounters()).cpuUsec ?? 0) > 50_000);
  expect((await tree.readMachineUsage()).cpuUsec).toBeGreaterThan(50_000);
  await service.killAll();
  expect(await running.ended).toBe("SIGKILL");
});

testUnified("the next supervisor takes over, and CPU time begins at nothing", async () => {
  await using root = await makeRoot("again");
  const tree = await openCgroups({ root: root.path, log: SILENT });
  await using before = await tree.openService("web", {});
  if (before === undefined) throw new Error("no cgroup");
  await using running = runIn(before, [workload, "spin"]);
  await eventually("CPU time", async () => ((await before.readCounters()).cpuUsec ?? 0) > 20_000);
  const again = await openCgroups({ root: root.path, log: SILENT });
  await using after = await again.openService("web", {});
  expect(await running.ended).toBe("SIGKILL");
  expect((await after?.readCounters())?.cpuUsec).toBeLessThan(20_000);
});

const OFFERED = "cpuset cpu io memory pids\n";
const EVENTS = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 1\n";
const SERVICE = {
  "cgroup.procs": "",
  "memory.max": "max\n",
  "memory.swap.max": "max\n",
  "memory.oom.group": "0\n",
  "memory.current": `${40 * MIB}\n`,
  "memory.peak": `${50 * MIB}\n`,
  "memory.stat": `anon 1\nfile 2\ninactive_file ${10 * MIB}\nthp_fault_alloc 0\n`,
  "memory.events": EVENTS,
  "pids.max": "max\n",
  "pids.current": "12\n",
  "pids.events": "max 3\n",
  "cpu.max": "max 100000\n",
  "cpu.stat": "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\ncore_sched.force_idle_usec 0\n",
};
const WHOLE = {
  "cgroup.controllers": OFFERED,
  "cgroup.type": "domain\n",
  "cgroup.procs": "",
  "cgroup.subtree_control": "\n",
  "services/cgroup.subtree_control": "\n",
  "system/cgroup.procs": "",
};

async function makeFake(
  files: Readonly<Record<string, string>> = {},
): Promise<AsyncDisposable & { readonly path: string; text(path: string): Promise<string> }> {
  const { path, ...folder } = await makeTemporary();
  const service = Object.entries(SERVICE).map(
    ([name, text]) => [`services/web.service/${name}`, text] as const,
  );
  await writeTree(path, { ...WHOLE, ...Object.fromEntries(service), ...files });
  return { path, ...folder, text: async (name) => await readFile(join(path, name), "utf8") };
}

test("the controllers for limits are enabled for the folder of services and in it", async () => {
  await using fake = await makeFake();
  const tree = await openCgroups({ root: fake.path, log: SILENT });
  expect(await fake.text("cgroup.subtree_control")).toBe("+memory +pids +cpu");
  expect(await fake.text("services/cgroup.subtree_control")).toBe("+memory +pids +cpu");
  expect(Object.values(tree.controllers).every(({ available }) => available)).toBe(true);
});

test("limits go into the files of version 2", async () => {
  await using fake = await makeFake();
  const tree = await openCgroups({ root: fake.path, log: SILENT });
  await using service = await tree.openService("web", { memoryBytes: 64 * MIB, pids: 20, cpus: 0.25 });
  const texts = async (): Promise<string[]> => {
    const names = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"];
    return await Promise.all(names.map(async (name) => await fake.text(`services/web.service/${name}`)));
  };
  expect(await texts()).toEqual([String(64 * MIB), "0", "1", "20", "25000 100000"]);
  await service?.setLimits({});
  expect(await texts()).toEqual(["max", "max", "1", "max", "max 100000"]);
});

test("usage comes from the files of version 2, and counters count from the opening", async () => {
  await using fake = await makeFake();
  const tree = await openCgroups({ root: fake.path, log: SILENT });
  await using service = await tree.openService("web", {});
  expect(await service?.readUsage()).toEqual({
    cpuUsec: 0,
    memoryBytes: 30 * MIB,
    memoryPeakBytes: 50 * MIB,
    pids: 12,
  });
  await writeFile(
    join(fake.path, "services/web.service/memory.events"),
    EVENTS.replace("oom_kill 2", "oom_kill 5"),
  );
  await writeFile(join(fake.path, "services/web.service/pids.events"), "max 4\n");
  await writeFile(join(fake.path, "services/web.service/cpu.stat"), "usage_usec 5600\n");
  expect(await service?.readCounters()).toEqual({ oomKills: 3, pidsRefused: 1, cpuUsec: 600 });
});

test("a controller that is not offered, or cannot be enabled, is told, and its limit is passed over", async () => {
  await using fake = await makeFake({ "cgroup.controllers": "cpu memory\n" });
  await rm(join(fake.path, "cgroup.subtree_control"));
  const tree = await openCgroups({ root: fake.path, log: SILENT });
  expect(tree.controllers).toEqual({
    memory: { available: false, why: "the memory controller cannot be enabled (ENOENT)" },
    pids: { available: false, why: "this machine gives the enclave no pids controller" },
    cpu: { available: false, why: "the cpu controller cannot be enabled (ENOENT)" },
    cpuacct: { available: true, why: null },
  });
  await using service = await tree.openService("web", { memoryBytes: MIB, pids: 2, cpus: 1 });
  expect(await service?.readUsage()).toMatchObject({ memoryBytes: null, pids: null, cpuUsec: 0 });
  expect(await fake.text("services/web.service/memory.max")).toBe("max\n");
});

test("processes that cannot be moved are told, and kernel threads are none", async () => {
  const lines: string[] = [];
  const log = createLog({ write: (line) => lines.push(line), now: () => 0 });
  await using proc = await makeTemporary();
  await writeTree(proc.path, {
    "7/stat": "7 (kthread) ) S 2 0 0 0 -1 2129984 0 0\n",
    "8/stat": "8 (a) S) S 1 8 8 0 -1 4194304 0 0\n",
  });
  await using fake = await makeFake({ "cgroup.procs": "7\n8\n0\n" });
  await rm(join(fake.path, "cgroup.type"));
  await openCgroups({ root: fake.path, procRoot: proc.path, log });
  expect(await fake.text("system/cgroup.procs")).toBe("8");
  expect(lines.join("")).toContain('"message":"processes stay in the root cgroup","processes":1');
});

test("the whole is told by its own cgroup where the host has delegated one", async () => {
  await using fake = await makeFake({
    "memory.current": `${200 * MIB}\n`,
    "memory.stat": `inactive_file ${50 * MIB}\n`,
    "memory.max": `${512 * MIB}\n`,
    "pids.current": "40\n",
    "pids.max": "4096\n",
    "cpu.max": "150000 100000\n",
    "cpu.stat": "usage_usec 77\n",
  });
  const tree = await openCgroups({ root: fake.path, log: SILENT });
  expect(await tree.readMachineUsage()).toEqual({
    cpuUsec: 77,
    memoryBytes: 150 * MIB,
    memoryPeakBytes: null,
    memoryLimitBytes: 512 * MIB,
    pids: 40,
    pidsLimit: 4096,
    cpusLimit: 1.5,
  });
});

test("in a machine of its own /proc tells the whole", async () => {
  await using proc = await makeTemporary();
  await writeTree(proc.path, {
    meminfo: "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:   400 kB\n",
    stat: "cpu  1 2 3 100 100 4 5 6 0 0\ncpu0 1 2 3 100 100 4 5 6 0 0\n",
    loadavg: "0.00 0.00 0.00 1/99 1234\n",
  });
  await using fake = await makeFake();
  await rm(join(fake.path, "cgroup.type"));
  const tree = await openCgroups({ root: fake.path, procRoot: proc.path, log: SILENT });
  expect(await tree.readMachineUsage()).toEqual({
    cpuUsec: 210_000,
    memoryBytes: 600 * 1024,
    memoryPeakBytes: null,
    memoryLimitBytes: 1000 * 1024,
    pids: 99,
    pidsLimit: null,
    cpusLimit: null,
  });
});

test("a tree that no kernel makes is refused with a code", async () => {
  await using fake = await makeFake({ "cgroup.controllers": "<html>\n" });
  await expect(openCgroups({ root: fake.path, log: SILENT })).rejects.toThrow(
    isKitError("E_CGROUP_FORMAT", /<html>/),
  );
});

const hostile: readonly (readonly [string, string])[] = [
  ["memory.current", "-5\n"],
  ["memory.stat", "inactive_file\n"],
  ["memory.stat", "x".repeat(100_000)],
  ["pids.current", ""],
  ["cpu.stat", "usage_usec 1e9\n"],
];

test.each(hostile)("a malformed %s is refused with a code", async (name, text) => {
  await using fake = await makeFake();
  const tree = await openCgroups({ root: fake.path, log: SILENT });
  await using service = await tree.openService("web", {});
  await writeFile(join(fake.path, "services", "web.service", name), text);
  await expect(service?.readUsage()).rejects.toThrow(isKitError("E_CGROUP_FORMAT", new RegExp(name)));
});

test("processes that never end are named after the deadline", async () => {
  await using folder = await makeTemporary();
  // The tests' own process is never killed, whatever a list says.
  await writeTree(folder.path, { "cgroup.procs": `1\n${process.pid}\n` });
  await expect(killCgroup({ members: folder.path, freezer: undefined }, 20)).rejects.toThrow(
    isKitError("E_CGROUP_KILL", new RegExp(`^processes 1, ${process.pid} in `)),
  );
});
