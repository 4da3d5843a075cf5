/** Version 1 for real: cgroups of the kernel below those of the test, processes that break their limits. */
import { mkdir, readFile, rmdir, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { openCgroups } from "../../enclave/cgroups/cgroup-tree.ts";
import type { CgroupLimits } from "../../enclave/cgroups/dialect.ts";
import type { ServiceCgroup } from "../../enclave/cgroups/service-cgroup.ts";
import {
  compileWorkload,
  exists,
  hasLegacyCgroups,
  isAlive,
  makeLegacyRoot,
  makeTemporary,
  runIn,
  SILENT,
} from "./cgroup-fixtures.ts";
import { eventually } from "./eventually.ts";
import { isKitError } from "./kit-error.ts";

const MIB = 1024 ** 2;
const has = await hasLegacyCgroups();
/** Needs root and a writable hierarchy of version 1 with the memory controller. */
const testLegacy = test.skipIf(!has);

const owned = new AsyncDisposableStack();
let workload = "";
beforeAll(async () => {
  if (has) workload = await compileWorkload(owned.use(await makeTemporary()).path);
});
afterAll(async () => await owned.disposeAsync());

async function openService(
  limits: CgroupLimits = {},
  wanted?: readonly string[],
): Promise<AsyncDisposable & { readonly service: ServiceCgroup; readonly root: string }> {
  await using opening = new AsyncDisposableStack();
  const root = opening.use(await makeLegacyRoot(wanted));
  const tree = await openCgroups({ root: root.path, log: SILENT });
  const service = await tree.openService("web", limits);
  if (service === undefined) throw new Error("no cgroups");
  opening.defer(async () => {
    await service.killAll();
    await service[Symbol.asyncDispose]();
  });
  const own = opening.move();
  return { service, root: root.path, [Symbol.asyncDispose]: async () => await own.disposeAsync() };
}

testLegacy(
  "a process that uses more memory than its service may is killed, and counted as that",
  async () => {
    await using opened = await openService({ memoryBytes: 16 * MIB });
    await using running = runIn(opened.service, [workload, "memory"]);
    expect(await running.ended).toBe("SIGKILL");
    expect(await opened.service.readCounters()).toMatchObject({ oomKills: 1, pidsRefused: 0 });
    const { memoryPeakBytes } = await opened.service.readUsage();
    expect(memoryPeakBytes).toBeGreaterThan(15 * MIB);
    expect(memoryPeakBytes).toBeLessThanOrEqual(16 * MIB);
  },
);

testLegacy("a SIGKILL that nobody's memory is to blame for is not counted as that", async () => {
  await using opened = await openService({ memoryBytes: 16 * MIB });
  await using running = runIn(opened.service, ["/bin/sleep", "1000"]);
  process.kill(running.pid, "SIGKILL");
  expect(await running.ended).toBe("SIGKILL");
  expect(await opened.service.readCounters()).toMatchObject({ oomKills: 0 });
});

testLegacy("forks beyond the limit are refused and counted", async () => {
  await using opened = await openService({ pids: 5 });
  await using running = runIn(opened.service, [workload, "forks", "20"]);
  await eventually("children", () => running.text().includes("\n"));
  expect(running.text()).toBe("4 Resource temporarily unavailable\n");
  expect(await opened.service.readCounters()).toMatchObject({ pidsRefused: 1, oomKills: 0 });
  expect((await opened.service.readUsage()).pids).toBe(5);
});

testLegacy("CPU time is counted, and the share of CPUs is the kernel's to keep", async () => {
  await using opened = await openService({ cpus: 0.5 });
  await using running = runIn(opened.service, [workload, "spin"]);
  const usedUsec = await eventually("CPU time", async () => {
    const { cpuUsec } = await opened.service.readCounters();
    return cpuUsec !== null && cpuUsec > 100_000 ? cpuUsec : undefined;
  });
  expect((await opened.service.readUsage()).cpuUsec).toBeGreaterThanOrEqual(usedUsec);
  await eventually("a period in which it was held back", async () => {
    const stat = await readFile(join(opened.root, "cpu", "services", "web.service", "cpu.stat"), "utf8");
    return /^nr_throttled [1-9]/m.test(stat);
  });
  expect(isAlive(running.pid)).toBe(true);
});

const killed: readonly (readonly [string, readonly string[]])[] = [
  ["with a freezer", ["memory", "pids", "cpu", "cpuacct", "freezer"]],
  ["without a freezer", ["memory", "pids"]],
];

testLegacy.each(killed)("a daemon that left its session is killed %s", async (_, wanted) => {
  await using opened = await openService({}, wanted);
  await using running = runIn(opened.service, [workload, "daemon"]);
  const daemon = await eventually("the daemon", () => Number(running.text().trim()));
  expect(isAlive(daemon)).toBe(true);
  await opened.service.killAll();
  const [members = ""] = opened.service.directories;
  expect(await readFile(join(members, "cgroup.procs"), "utf8")).toBe("");
  await eventually("its end", () => !isAlive(daemon));
});

testLegacy.each(killed)("a fork bomb is killed %s", async (_, wanted) => {
  await using opened = await openService(
    { pids: 60, memoryBytes: 64 * MIB, cpus: 0.5 },
    wanted.concat("pids"),
  );
  await using running = runIn(opened.service, [workload, "bomb"]);
  await eventually("refused forks", async () => (await opened.service.readCounters()).pidsRefused > 0);
  await opened.service.killAll();
  expect(await running.ended).toBe("SIGKILL");
  const [members = ""] = opened.service.directories;
  expect(await readFile(join(members, "cgroup.procs"), "utf8")).toBe("");
});

testLegacy("several kills at once all end, and nothing stays frozen", async () => {
  await using opened = await openService();
  await using running = runIn(opened.service, ["/bin/sleep", "1000"]);
  await eventually("the process has joined", async () => ((await opened.service.readUsage()).pids ?? 0) > 0);
  await Promise.all([opened.service.killAll(), opened.service.killAll(), opened.service.killAll()]);
  expect(await running.ended).toBe("SIGKILL");
  const state = join(opened.root, "freezer", "services", "web.service", "freezer.state");
  expect(await readFile(state, "utf8")).toBe("THAWED\n");
});

testLegacy("limits can be raised, lowered and taken away", async () => {
  await using opened = await openService({ memoryBytes: 16 * MIB, pids: 5, cpus: 0.5 });
  const read = async (): Promise<string[]> => {
    const files = ["memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us"].map((path) =>
      path.split("/"),
    );
    const texts = files.map(async ([hierarchy = "", file = ""]) =>
      (await readFile(join(opened.root, hierarchy, "services", "web.service", file), "utf8")).trim(),
    );
    return await Promise.all(texts);
  };
  expect(await read()).toEqual([String(16 * MIB), "5", "50000"]);
  await opened.service.setLimits({ memoryBytes: 32 * MIB, pids: 7, cpus: 1.5 });
  expect(await read()).toEqual([String(32 * MIB), "7", "150000"]);
  await opened.service.setLimits({ memoryBytes: 8 * MIB, pids: 3, cpus: 0.001 });
  expect(await read()).toEqual([String(8 * MIB), "3", "1000"]);
  await opened.service.setLimits({});
  expect(await read()).toEqual(["9223372036854771712", "max", "-1"]);
});

testLegacy("less memory than is in use is refused as a limit", async () => {
  await using opened = await openService({ memoryBytes: 64 * MIB });
  await using running = runIn(opened.service, [
    process.execPath,
    "-e",
    "setInterval(() => {}, 1000); console.log(1)",
  ]);
  await eventually("the program runs", () => running.text() === "1\n");
  const refusal = opened.service.setLimits({ memoryBytes: 4096 });
  await expect(refusal).rejects.toThrow(
    isKitError("E_CGROUP_LIMIT", /service web: .*memory.limit_in_bytes: EBUSY$/),
  );
  expect(isAlive(running.pid)).toBe(true);
});

testLegacy("more CPUs than the whole has are no refusal: the limit above holds", async () => {
  await using root = await makeLegacyRoot();
  await writeFile(join(root.path, "cpu", "cpu.cfs_quota_us"), "50000");
  const tree = await openCgroups({ root: root.path, log: SILENT });
  const service = await tree.openService("web", { cpus: 2 });
  const quota = join(root.path, "cpu", "services", "web.service", "cpu.cfs_quota_us");
  expect(await readFile(quota, "utf8")).toBe("-1\n");
  expect(await tree.readMachineUsage()).toMatchObject({ cpusLimit: 0.5 });
  await service?.remove();
});

testLegacy(
  "the next supervisor takes over: what was left is killed, and counters begin at nothing",
  async () => {
    await using opened = await openService({ memoryBytes: 16 * MIB, pids: 2 });
    await using hog = runIn(opened.service, [workload, "memory"]);
    expect(await hog.ended).toBe("SIGKILL");
    await using left = runIn(opened.service, [workload, "forks", "5"]);
    await eventually("children", () => left.text() !== "");
    const tree = await openCgroups({ root: opened.root, log: SILENT });
    await using next = await tree.openService("web", { memoryBytes: 32 * MIB });
    expect(await left.ended).toBe("SIGKILL");
    expect(await next?.readCounters()).toEqual({ oomKills: 0, pidsRefused: 0, cpuUsec: 0 });
    expect(await opened.service.readCounters()).toMatchObject({ oomKills: 1, pidsRefused: 1 });
  },
);

testLegacy("a cgroup that is in use is not removed, and the refusal names who uses it", async () => {
  await using opened = await openService();
  await using running = runIn(opened.service, ["/bin/sleep", "1000"]);
  await eventually("the process has joined", async () => ((await opened.service.readUsage()).pids ?? 0) > 0);
  await expect(opened.service.remove()).rejects.toThrow(
    isKitError("E_CGROUP_BUSY", new RegExp(`still holds processes ${running.pid}$`)),
  );
  await opened.service.killAll();
  await opened.service.remove();
  for (const directory of opened.service.directories) expect(await exists(directory)).toBe(false);
});

testLegacy("a removed cgroup has no counters and no usage", async () => {
  await using opened = await openService();
  await opened.service.remove();
  expect(await opened.service.readCounters()).toEqual({ oomKills: 0, pidsRefused: 0, cpuUsec: null });
  expect(await opened.service.readUsage()).toEqual({
    cpuUsec: null,
    memoryBytes: null,
    memoryPeakBytes: null,
    pids: null,
  });
  await opened.service.killAll();
});

testLegacy("counters of a cgroup that somebody else removed are refused with a code", async () => {
  await using opened = await openService();
  await opened.service.readCounters();
  for (const directory of opened.service.directories) await rmdir(directory);
  await expect(opened.service.readCounters()).rejects.toThrow(isKitError("E_CGROUP_FILE", /ENODEV$/));
});

testLegacy("what a machine does not have is told for each controller, and the rest is used", async () => {
  await using root = await makeLegacyRoot(["pids"]);
  const tree = await openCgroups({ root: root.path, log: SILENT });
  expect(tree.controllers.pids).toEqual({ available: true, why: null });
  for (const name of ["memory", "cpu", "cpuacct"] as const) {
    const why = `this machine gives the enclave no ${name} controller`;
    expect(tree.controllers[name]).toEqual({ available: false, why });
  }
  const service = await tree.openService("web", { memoryBytes: MIB, cpus: 1, pids: 9 });
  expect(await service?.readUsage()).toEqual({
    cpuUsec: null,
    memoryBytes: null,
    memoryPeakBytes: null,
    pids: 0,
  });
  expect(await service?.readCounters()).toEqual({ oomKills: 0, pidsRefused: 0, cpuUsec: null });
  expect(await tree.readMachineUsage()).toMatchObject({
    pids: 0,
    pidsLimit: null,
    memoryBytes: null,
    cpuUsec: null,
  });
  await service?.remove();
});

/** Files of a tmpfs are memory in use. */
const TMPFS = 0x01021994;
const onDisk = test.skipIf(!has || (await statfs(tmpdir())).type === TMPFS);

onDisk("page cache that can be given back is not counted as memory in use", async () => {
  await using opened = await openService();
  await using folder = await makeTemporary();
  const file = join(folder.path, "data");
  await using writer = runIn(opened.service, ["/bin/dd", "if=/dev/zero", `of=${file}`, "bs=1M", "count=32"]);
  expect(await writer.ended).toBe(0);
  const { memoryBytes, memoryPeakBytes } = await opened.service.readUsage();
  expect(memoryPeakBytes).toBeGreaterThan(32 * MIB);
  expect(memoryBytes).toBeLessThan(16 * MIB);
});

testLegacy("a service may have the name of one of the kernel's files", async () => {
  await using root = await makeLegacyRoot(["pids"]);
  const tree = await openCgroups({ root: root.path, log: SILENT });
  const service = await tree.openService("tasks", { pids: 3 });
  await service?.remove();
  expect(service?.directories).toHaveLength(1);
});

testLegacy("an opening that fails halfway leaves nothing behind", async () => {
  await using root = await makeLegacyRoot(["pids", "freezer"]);
  const tree = await openCgroups({ root: root.path, log: SILENT });
  await expect(tree.openService("web", { pids: -5 })).rejects.toThrow(
    isKitError("E_CGROUP_LIMIT", /pids.max: EINVAL/),
  );
  expect(await exists(join(root.path, "freezer", "services", "web.service"))).toBe(false);
  expect(await exists(join(root.path, "pids", "services", "web.service"))).toBe(false);
});

test("a name that is a path is refused", async () => {
  await using folder = await makeTemporary();
  await mkdir(join(folder.path, "services"));
  await writeFile(join(folder.path, "cgroup.controllers"), "\n");
  await writeFile(join(folder.path, "cgroup.type"), "domain\n");
  const tree = await openCgroups({ root: folder.path, log: SILENT });
  for (const name of ["", ".", "..", "a/b", "a.b", "A"]) {
    await expect(tree.openService(name, {})).rejects.toThrow(TypeError);
  }
});

test("where there are no cgroups there is none for a service, and each limit says so", async () => {
  await using folder = await makeTemporary();
  for (const root of [folder.path, join(folder.path, "missing")]) {
    const tree = await openCgroups({ root, log: SILENT });
    const absent = { available: false, why: "this machine gives the enclave no cgroups" };
    expect(tree.controllers).toEqual({ memory: absent, pids: absent, cpu: absent, cpuacct: absent });
    expect(await tree.openService("web", { pids: 1 })).toBeUndefined();
    expect(Object.values(await tree.readMachineUsage()).every((value) => value === null)).toBe(true);
  }
});
