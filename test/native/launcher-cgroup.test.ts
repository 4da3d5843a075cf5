import { chown, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { hasCgroups, openEquippedSandbox, runInside, SELF, TestCgroup } from "./execution.ts";
import { openSandbox, openWorkshop, RANGE_START, until, type Workshop } from "./sandbox.ts";

const hasVersion1 = (await hasCgroups("pids")) && (await hasCgroups("memory"));
const hasVersion2 = await hasCgroups("unified");

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

/** A cgroup that belongs to the sandbox's uid 0, as its runner makes it. */
async function delegate(hierarchy: string, name: string): Promise<TestCgroup> {
  const cgroup = await TestCgroup.make(hierarchy, name);
  await chown(cgroup.directory, RANGE_START, RANGE_START);
  for (const file of await readdir(cgroup.directory)) {
    if (/^(cgroup\.(procs|threads|subtree_control)|tasks)$/.test(file))
      await chown(join(cgroup.directory, file), RANGE_START, RANGE_START);
  }
  return cgroup;
}

const members = async (...path: string[]): Promise<readonly string[]> =>
  (await readFile(join(...path, "cgroup.procs"), "utf8")).split("\n").filter((pid) => pid !== "");

// Skipped without root, or where the host's version 1 hierarchies are not mounted.
describe.skipIf(!hasVersion1)("a sandbox with cgroups of version 1", () => {
  test("is in them from its first process on, and sees only them", async () => {
    await using memory = await delegate("memory", "sees");
    await using pids = await delegate("pids", "sees");
    const options = ["--cgroup", `memory:${memory.directory}`, "--cgroup", `pids:${pids.directory}`];
    const { sandbox, agent } = await openEquippedSandbox(workshop, "root", options);
    await using _ = sandbox;
    const init = String(await sandbox.initPid());
    expect(await members(memory.directory)).toContain(init);
    expect(await members(pids.directory)).toContain(init);
    expect(await members(pids.directory)).not.toContain(String(sandbox.launcher.pid));
    expect(await agent.ask("read /proc/1/cgroup")).toMatch(/^[0-9]+:pids:\/$/m);
    const rows = (await agent.lines("read /proc/self/mountinfo")).map((row) => row.split(" "));
    const cgroups = rows.filter((row) => row[4]?.startsWith("/sys/fs/cgroup"));
    expect(cgroups.map((row) => `${row[3]} at ${row[4]}`).toSorted()).toEqual([
      "/ at /sys/fs/cgroup",
      "/ at /sys/fs/cgroup/memory",
      "/ at /sys/fs/cgroup/pids",
    ]);
    for (const row of cgroups) expect(row[5]).toMatch(/^rw,nosuid,nodev,noexec/);
  });

  test("can make cgroups below, and move its own processes there", async () => {
    await using pids = await delegate("pids", "below");
    const { sandbox, agent } = await openEquippedSandbox(workshop, "root", [
      "--cgroup",
      `pids:${pids.directory}`,
    ]);
    await using _ = sandbox;
    const child = "/sys/fs/cgroup/pids/child";
    const make = `mkdir ${child} && echo 7 >${child}/pids.max && cat ${child}/pids.max`;
    expect(await runInside(agent, ["/bin/sh", "-c", make])).toMatchObject({ status: 0, output: "7\n" });
    const service = ["/service-exec", ...SELF, "--cgroup", child, "--confine", "--", "/bin/sh", "-c"];
    const script = "cat /proc/self/cgroup; echo 9 >/sys/fs/cgroup/pids/child/pids.max";
    const { output, error } = await runInside(agent, [...service, script]);
    expect(error).toBe("");
    expect(output).toMatch(/^[0-9]+:pids:\/child$/m);
    expect(output).toMatch(/Read-only file system/);
    expect(await readFile(join(pids.directory, "child", "pids.max"), "utf8")).toBe("7\n");
    expect(await agent.ask("write /sys/fs/cgroup/pids/pids.max 5")).toBe("error EACCES");
  });

  test("leaves them empty", async () => {
    await using pids = await delegate("pids", "empty");
    const { sandbox } = await openEquippedSandbox(workshop, "root", ["--cgroup", `pids:${pids.directory}`]);
    await using _ = sandbox;
    sandbox.hangUp();
    await sandbox.exited();
    await until("nobody is left", async () => (await members(pids.directory)).length === 0);
  });

  test("is not launched if one is missing or no cgroup", async () => {
    const folder = join(workshop.directory, "no-cgroup");
    await mkdir(folder);
    for (const directory of [folder, join(folder, "missing")]) {
      await using sandbox = await openSandbox({
        workshop,
        as: "root",
        launcherArguments: ["--cgroup", `pids:${directory}`],
      });
      expect(await sandbox.report()).toBe(`E cgroup 2 ENOENT ${directory}\n`);
      expect(await sandbox.exited()).toEqual({ code: 125, signal: null });
    }
  });
});

describe.skipIf(!hasVersion2)("a sandbox with a cgroup of version 2", () => {
  test("has it as its own tree", async () => {
    await using cgroup = await delegate("unified", "tree");
    const { sandbox, agent } = await openEquippedSandbox(workshop, "root", [
      "--cgroup",
      `:${cgroup.directory}`,
    ]);
    await using _ = sandbox;
    expect(await members(cgroup.directory)).toContain(String(await sandbox.initPid()));
    expect(await agent.ask("read /proc/1/cgroup")).toMatch(/^0::\/$/m);
    expect(await agent.ask("read /proc/self/mountinfo")).toMatch(
      / \/ \/sys\/fs\/cgroup rw,nosuid,nodev,noexec/,
    );
    const move =
      "mkdir /sys/fs/cgroup/child && echo $$ >/sys/fs/cgroup/child/cgroup.procs && cat /proc/self/cgroup";
    const { status, output } = await runInside(agent, ["/bin/sh", "-c", move]);
    expect(status, output).toBe(0);
    expect(output).toMatch(/^0::\/child$/m);
  });
});

test.each([
  ["no directory", ["--cgroup", "pids"]],
  ["a relative directory", ["--cgroup", "pids:x"]],
  ["a name with a slash", ["--cgroup", "../pids:/x"]],
  ["a name that is too long", ["--cgroup", `${"x".repeat(33)}:/x`]],
  ["version 2 after version 1", ["--cgroup", "pids:/x", "--cgroup", ":/y"]],
  ["version 1 after version 2", ["--cgroup", ":/x", "--cgroup", "pids:/y"]],
  ["nine of them", Array.from({ length: 9 }, (_, at) => ["--cgroup", `n${at}:/x`]).flat()],
])("the launcher refuses %s", async (_name, launcherArguments) => {
  await using sandbox = await openSandbox({ workshop, as: "ordinary", launcherArguments });
  expect(await sandbox.report()).toBe(
    "E arguments 22 EINVAL --cgroup is not NAME:DIR, or there are more than 8\n",
  );
});
