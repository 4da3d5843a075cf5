import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";

import { parseCgroupMounts } from "../../host/backends/local/cgroup-mounts.ts";
import { removeCgroupTree } from "../../host/backends/local/cgroup-removal.ts";
import { type MachineCgroupsOptions, openMachineCgroups } from "../../host/backends/local/machine-cgroups.ts";
import {
  compileWorkload,
  exists,
  hasLegacyCgroups,
  makeTemporary,
  SERVICE_EXEC,
  writeTree,
} from "../enclave/cgroup-fixtures.ts";
import { isKitError } from "../enclave/kit-error.ts";
import { ROOT } from "../structure/source-files.ts";

const MIB = 1024 ** 2;
const isRoot = process.getuid?.() === 0;
const testRoot = test.skipIf(!isRoot);
/** Needs root and a writable hierarchy of version 1 with the memory controller. */
const testLegacy = test.skipIf(!(await hasLegacyCgroups()));
const LAUNCHER = join(ROOT, "native", "build", "launcher");
const ROOT_ID = 1_700_000_000;
const WANTED = { memoryBytes: 128 * MIB, cpus: 2, pids: 300, rootUid: ROOT_ID, rootGid: ROOT_ID } as const;

/** Directories by the names that the launcher gives them. */
function directoriesOf(words: readonly string[]): Record<string, string> {
  const values = words.filter((word) => word !== "--cgroup").map((word) => word.split(":"));
  return Object.fromEntries(values.map(([name = "", directory = ""]) => [name, directory]));
}

const read = async (directory: string | undefined, name: string): Promise<string> =>
  await readFile(join(directory ?? "", name), "utf8");

testLegacy(
  "an enclave has a cgroup in each hierarchy, with its limits, until it is disposed of",
  async () => {
    const cgroups = await openMachineCgroups({ ...WANTED, name: "whole" });
    const held = { enforced: true, why: null };
    expect(cgroups.limits).toEqual({ memory: held, cpus: held, pids: held });
    const made = directoriesOf(cgroups.arguments);
    expect(await read(made["memory"], "memory.limit_in_bytes")).toBe(`${128 * MIB}\n`);
    expect(await read(made["pids"], "pids.max")).toBe("300\n");
    expect(await read(made["cpu"], "cpu.cfs_quota_us")).toBe("200000\n");
    expect(Object.keys(made).sort()).toEqual(["cpu", "cpuacct", "freezer", "memory", "pids"]);
    await cgroups[Symbol.asyncDispose]();
    for (const directory of Object.values(made)) expect(await exists(directory)).toBe(false);
  },
);

testLegacy("the enclave owns the directory and the lists of processes, and none of its limits", async () => {
  await using cgroups = await openMachineCgroups({ ...WANTED, name: "owner" });
  for (const directory of Object.values(directoriesOf(cgroups.arguments))) {
    const own = ["", "cgroup.procs", "tasks"];
    for (const name of [...own, ...(await readdir(directory))]) {
      const { uid, gid } = await stat(join(directory, name));
      expect([name, uid, gid]).toEqual([name, ...(own.includes(name) ? [ROOT_ID, ROOT_ID] : [0, 0])]);
    }
  }
});

testLegacy("cgroups of the enclave go with its own, however deep", async () => {
  const cgroups = await openMachineCgroups({ ...WANTED, name: "deep" });
  const { memory = "" } = directoriesOf(cgroups.arguments);
  for (const path of ["services/a.service", "services/b.service/c/d"])
    await mkdir(join(memory, path), { recursive: true });
  await cgroups[Symbol.asyncDispose]();
  expect(await exists(memory)).toBe(false);
});

testLegacy("a process that stays in is named, and the cgroup is left", async () => {
  await using cgroups = await openMachineCgroups({ ...WANTED, name: "stays" });
  const { pids = "" } = directoriesOf(cgroups.arguments);
  const child = spawn("/bin/sleep", ["1000"], { stdio: "ignore" });
  const ended = once(child, "exit");
  try {
    await writeFile(join(pids, "cgroup.procs"), String(child.pid));
    await expect(removeCgroupTree(pids, 20)).rejects.toThrow(
      isKitError("E_CGROUP_BUSY", new RegExp(`still holds processes ${child.pid}$`)),
    );
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
});

testLegacy(
  "cgroups that a killed runner left are removed by the next, those of living ones are not",
  async () => {
    await using living = await openMachineCgroups({ ...WANTED, name: "living" });
    const { pids = "" } = directoriesOf(living.arguments);
    const child = spawn("/bin/true", { stdio: "ignore" });
    await once(child, "exit");
    const stale = join(dirname(pids), `enclave-toolkit-gone-${child.pid}-0123abcd`);
    await mkdir(join(stale, "services", "web.service"), { recursive: true });
    await using next = await openMachineCgroups({ ...WANTED, name: "next" });
    expect(next.limits.pids.enforced).toBe(true);
    expect(await exists(stale)).toBe(false);
    expect(await exists(pids)).toBe(true);
  },
);

testLegacy("root of the enclave limits its services with them, and cannot raise its own limits", async () => {
  await using folder = await makeTemporary();
  await chmod(folder.path, 0o755);
  const workload = await compileWorkload(folder.path);
  const serviceExec = join(folder.path, "service-exec");
  await cp(SERVICE_EXEC, serviceExec);
  await using cgroups = await openMachineCgroups({ ...WANTED, name: "userns" });
  const made = directoriesOf(cgroups.arguments);
  await mkdir(join(folder.path, "cgroup"));
  for (const [name, directory] of Object.entries(made))
    await symlink(directory, join(folder.path, "cgroup", name));
  const guest = join(ROOT, "test", "fixtures", "enclave", "cgroup-guest.ts");
  const program = [process.execPath, guest, join(folder.path, "cgroup"), serviceExec, workload];
  // As the launcher does for a whole sandbox: the move comes from the host, and before the namespace.
  const join_ = 'for each in $CGROUPS; do echo $$ > "$each/cgroup.procs"; done; exec "$@"';
  const words = ["-c", join_, "sh", LAUNCHER, "userns", "--map", `0:${ROOT_ID}:65536`, "--", ...program];
  const env = { PATH: "/usr/bin:/bin", CGROUPS: Object.values(made).join(" ") };
  const { stdout } = await promisify(execFile)("/bin/sh", words, { env, timeout: 30_000 });
  const held = { available: true, why: null };
  expect(JSON.parse(stdout)).toMatchObject({
    controllers: { memory: held, pids: held, cpu: held, cpuacct: held },
    machine: { memoryLimitBytes: 128 * MIB, pidsLimit: 300, cpusLimit: 2 },
    signal: "SIGKILL",
    counters: { oomKills: 1, pidsRefused: 0 },
    raised: { memory: "EACCES", pids: "EACCES", cpu: "EACCES" },
  });
});

testRoot("without root there are no cgroups, and each limit says so", async () => {
  const module = join(ROOT, "host", "backends", "local", "machine-cgroups.ts");
  const script = `const { openMachineCgroups } = await import(${JSON.stringify(module)});
    process.setgroups([]); process.setgid(65534); process.setuid(65534);
    const made = await openMachineCgroups({ name: "x", ...${JSON.stringify(WANTED)} });
    await made[Symbol.asyncDispose]();
    console.log(JSON.stringify(made));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  const why = "cgroups can be made only by root: run as root to have this limit";
  const held = { enforced: false, why };
  expect(JSON.parse(stdout)).toEqual({ arguments: [], limits: { memory: held, cpus: held, pids: held } });
});

/** A folder with a tree of version 2 made of plain files, in which new cgroups come with the files of a kernel's. */
async function makeUnified(
  files: readonly string[],
): Promise<AsyncDisposable & { readonly path: string; readonly options: MachineCgroupsOptions }> {
  const { path, ...folder } = await makeTemporary();
  const mount = join(path, "cgroup");
  await writeTree(path, {
    "proc/self/mountinfo": `24 1 0:9 / ${mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n`,
    "proc/self/cgroup": "0::/user.slice/session-1.scope\n",
    "cgroup/cgroup.subtree_control": "\n",
  });
  const makeCgroup = async (directory: string): Promise<void> => {
    await mkdir(directory);
    for (const name of files) await writeFile(join(directory, name), "");
  };
  const options = { ...WANTED, name: "two", procRoot: join(path, "proc"), makeCgroup };
  return { path: mount, ...folder, options };
}

const COMMON = [
  "cgroup.procs",
  "cgroup.threads",
  "cgroup.subtree_control",
  "cgroup.max.depth",
  "cgroup.max.descendants",
];

testRoot("version 2 (plain files): at the top of the tree, with controllers enabled on the way", async () => {
  await using tree = await makeUnified([...COMMON, "memory.max", "memory.swap.max", "cpu.max", "pids.max"]);
  // Not disposed of: plain files keep a directory from being removed as the kernel's do not.
  const cgroups = await openMachineCgroups(tree.options);
  const { "": directory = "" } = directoriesOf(cgroups.arguments);
  expect(dirname(directory)).toBe(join(tree.path, "enclave-toolkit"));
  expect(await read(tree.path, "cgroup.subtree_control")).toBe("+memory +pids +cpu");
  expect(await read(dirname(directory), "cgroup.subtree_control")).toBe("+memory +pids +cpu");
  const held = { enforced: true, why: null };
  expect(cgroups.limits).toEqual({ memory: held, cpus: held, pids: held });
  const texts = {
    "memory.max": String(128 * MIB),
    "memory.swap.max": "0",
    "cpu.max": "200000 100000",
    "pids.max": "300",
  };
  for (const [name, text] of Object.entries(texts))
    expect([name, await read(directory, name)]).toEqual([name, text]);
  expect(await read(directory, "cgroup.subtree_control")).toBe("");
  for (const name of ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", ""]) {
    expect((await stat(join(directory, name))).uid).toBe(ROOT_ID);
  }
  for (const name of [...Object.keys(texts), "cgroup.max.descendants"]) {
    expect((await stat(join(directory, name))).uid).toBe(0);
  }
});

testRoot(
  "version 2 (plain files): a controller that cannot be had is told, and the others are used",
  async () => {
    await using tree = await makeUnified([...COMMON, "pids.max"]);
    const { limits } = await openMachineCgroups(tree.options);
    expect(limits.pids).toEqual({ enforced: true, why: null });
    expect(limits.memory.why).toMatch(
      /^this machine gives its cgroups no memory controller \(there is no .*memory.max\)$/,
    );
    expect(limits.cpus.why).toMatch(/^this machine gives its cgroups no cpu controller/);
  },
);

testRoot("a tree in which root may make nothing is told for each limit", async () => {
  await using tree = await makeUnified([]);
  const refusal: NodeJS.ErrnoException = Object.assign(new Error("read-only"), { code: "EROFS" });
  const options = { ...tree.options, makeCgroup: () => Promise.reject(refusal) };
  await using cgroups = await openMachineCgroups(options);
  expect(cgroups.arguments).toEqual([]);
  const why = `this machine does not let root make cgroups in ${join(tree.path, "enclave-toolkit")} (EROFS)`;
  const held = { enforced: false, why };
  expect(cgroups.limits).toEqual({ memory: held, cpus: held, pids: held });
});

testRoot("a machine without cgroups is told for each limit", async () => {
  await using folder = await makeTemporary();
  await writeTree(folder.path, {
    "self/mountinfo": "1 1 0:1 / / rw - ext4 /dev/vda rw\n",
    "self/cgroup": "",
  });
  await using cgroups = await openMachineCgroups({ ...WANTED, name: "none", procRoot: folder.path });
  expect(cgroups.arguments).toEqual([]);
  expect(cgroups.limits.cpus).toEqual({
    enforced: false,
    why: "this machine has no cgroups with the cpu controller",
  });
});

test("mounts are found by their controllers, with this process's own place in each", () => {
  const mountinfo = [
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct",
    "33 31 0:30 /docker/abc /sys/fs/cgroup/with\\040blank rw - cgroup cgroup rw,memory",
    "34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
    "35 31 0:30 / /elsewhere rw - cgroup cgroup rw,memory",
    "38 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
  ].join("\n");
  const cgroup = "3:memory:/docker/abc/inner\n2:cpu,cpuacct:/user\n1:name=systemd:/\n0::/a:b\n";
  expect(parseCgroupMounts(mountinfo, cgroup)).toEqual([
    {
      controllers: ["cpu", "cpuacct"],
      isUnified: false,
      mountPoint: "/sys/fs/cgroup/cpu,cpuacct",
      own: "/sys/fs/cgroup/cpu,cpuacct/user",
    },
    {
      controllers: ["memory"],
      isUnified: false,
      mountPoint: "/sys/fs/cgroup/with blank",
      own: "/sys/fs/cgroup/with blank/inner",
    },
    {
      controllers: [],
      isUnified: true,
      mountPoint: "/sys/fs/cgroup/unified",
      own: "/sys/fs/cgroup/unified/a:b",
    },
  ]);
});

test.each([
  ["/docker/abc", "/docker/abcdef", "/m"],
  ["/docker/abc", "/docker/abc", "/m"],
  ["/", "/../../other", "/m"],
  ["/..", "/", "/m"],
])("a mount of %s with this process at %s is used at %s", (root, own, expected) => {
  const mountinfo = `1 1 0:1 ${root} /m rw - cgroup cgroup rw,pids`;
  expect(parseCgroupMounts(mountinfo, `5:pids:${own}\n`)).toMatchObject([{ own: expected }]);
});

test("any text of the two files gives places below the mount points, or none", () => {
  const word = fc.constantFrom(
    "-",
    "cgroup",
    "cgroup2",
    "/",
    "/a/..",
    "/m",
    "rw,pids",
    "0::/",
    "1:pids:/..",
    "\\057",
    "\n",
    "",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(word, { maxLength: 40 }).map((words) => words.join(" ")),
  );
  fc.assert(
    fc.property(text, text, (mountinfo, cgroup) => {
      for (const { mountPoint, own } of parseCgroupMounts(mountinfo, cgroup)) {
        expect(mountPoint.startsWith("/")).toBe(true);
        expect(`${own}/`.startsWith(join(mountPoint, "/"))).toBe(true);
      }
    }),
    { numRuns: 2_000 },
  );
});
