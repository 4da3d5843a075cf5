import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, copyFile, mkdir, readFile, readlink, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import {
  collect,
  compileFixture,
  isAlive,
  isInhabited,
  isRoot,
  openSandbox,
  openWorkshop,
  prepareSandbox,
  RANGE_START,
  spawnAs,
  until,
  within,
  type Sandbox,
  type SandboxOptions,
  type Workshop,
} from "./sandbox.ts";

const run = promisify(execFile);
let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

const me = isRoot ? "root" : "ordinary";
const open = (options: Partial<SandboxOptions> = {}) => openSandbox({ workshop, as: me, ...options });

/** Runs the launcher to its end. */
async function launch(as: "root" | "ordinary", parameters: readonly string[], path?: string) {
  const child = spawnAs(as, [workshop.launcher, ...parameters], ["ignore", "pipe", "pipe"], path);
  const closed = once(child, "close");
  const [stdout, stderr] = await Promise.all([collect(child, 1), collect(child, 2), closed]);
  return { stdout, stderr, code: child.exitCode, signal: child.signalCode };
}

async function expectNothingLeft(sandbox: Sandbox, namespaces: { pid: string; mnt: string }): Promise<void> {
  await until("every process is gone", async () => !(await isInhabited("pid", namespaces.pid)));
  await until("every mount is gone", async () => !(await isInhabited("mnt", namespaces.mnt)));
  expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(sandbox.directory);
}

async function namespacesOf(pid: number): Promise<{ pid: string; mnt: string }> {
  return { pid: await readlink(`/proc/${pid}/ns/pid`), mnt: await readlink(`/proc/${pid}/ns/mnt`) };
}

describe("the launcher leaves no process and no mount", () => {
  test.each(["launcher", "init"] as const)("when %s is killed", async (victim) => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    await agent.ask("linger");
    const init = await sandbox.initPid();
    const namespaces = await namespacesOf(init);
    process.kill(victim === "init" ? init : (sandbox.launcher.pid ?? 0), "SIGKILL");
    const exit = await sandbox.exited();
    expect(exit).toEqual(victim === "init" ? { code: 137, signal: null } : { code: null, signal: "SIGKILL" });
    await expectNothingLeft(sandbox, namespaces);
  });

  test("when the lifeline hangs up", async () => {
    await using sandbox = await open();
    await sandbox.nextAgent();
    const namespaces = await namespacesOf(await sandbox.initPid());
    sandbox.hangUp();
    expect(await sandbox.exited()).toEqual({ code: 137, signal: null });
    await expectNothingLeft(sandbox, namespaces);
  });

  test("when the process that started it is killed", async () => {
    await using sandbox = await prepareSandbox({ workshop, as: me });
    const map = isRoot ? `0:${RANGE_START}:65536` : "self";
    const folders = ["--root", sandbox.tree, "--scratch", sandbox.scratch, "--vsock-dir", sandbox.vsock];
    const command = ["run", "--map", map, ...folders, "--tmpfs-bytes", "1000000", "--", "/opt/enclave/init"];
    const shell = spawnAs(
      me,
      ["sh", "-c", '"$@" & wait', "sh", workshop.launcher, ...command],
      ["ignore", "ignore", "ignore"],
    );
    const closed = once(shell, "close");
    const agent = await sandbox.nextAgent();
    const { stdout } = await run("cat", [`/proc/${shell.pid}/task/${shell.pid}/children`]);
    const { stdout: inits } = await run("cat", [`/proc/${Number(stdout)}/task/${Number(stdout)}/children`]);
    const namespaces = await namespacesOf(Number(inits));
    expect(await agent.ask("read /proc/1/comm")).toBe("init\n");
    shell.kill("SIGKILL");
    await within("the shell's end", closed);
    await expectNothingLeft(sandbox, namespaces);
  });

  test("after an orderly end", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    const namespaces = await namespacesOf(await sandbox.initPid());
    agent.tell("exit 0");
    expect(await sandbox.exited()).toEqual({ code: 0, signal: null });
    await expectNothingLeft(sandbox, namespaces);
  });
});

describe("a launch that fails says at which step", () => {
  test.each([
    ["the tree", "root", (sandbox: Sandbox) => sandbox.tree],
    ["the scratch folder", "scratch", (sandbox: Sandbox) => sandbox.scratch],
    ["the vsock folder", "vsock_dir", (sandbox: Sandbox) => sandbox.vsock],
  ] as const)("if %s is missing", async (_name, step, pick) => {
    await using sandbox = await open({ prepare: (sandbox) => rm(pick(sandbox), { recursive: true }) });
    expect(await sandbox.report()).toBe(`E ${step} 2 ENOENT ${pick(sandbox)}\n`);
    expect(await sandbox.exited()).toEqual({ code: 125, signal: null });
  });

  test("if the vsock folder is a file", async () => {
    const swap = async (sandbox: Sandbox): Promise<void> => {
      await rm(sandbox.vsock, { recursive: true });
      await copyFile(workshop.init, sandbox.vsock);
    };
    await using sandbox = await open({ prepare: swap });
    expect(await sandbox.report()).toBe(`E vsock_dir 20 ENOTDIR ${sandbox.vsock}\n`);
  });

  test("if the image has no init", async () => {
    await using sandbox = await open({ prepare: (sandbox) => rm(join(sandbox.tree, "opt/enclave/init")) });
    expect(await sandbox.report()).toBe("E exec 2 ENOENT /opt/enclave/init\n");
    expect(await sandbox.exited()).toEqual({ code: 125, signal: null });
  });

  test("if something to be bound is missing", async () => {
    await using sandbox = await open({ launcherArguments: ["--bind-ro", "/not\nthere:/x"] });
    expect(await sandbox.report()).toBe("E bind 2 ENOENT /not?there\n");
  });

  test("if the arguments are wrong", async () => {
    await using sandbox = await open({ launcherArguments: ["--map", "1:2"] });
    expect(await sandbox.report()).toBe(
      "E arguments 22 EINVAL --map is neither self nor INSIDE:OUTSIDE:COUNT\n",
    );
    expect(await sandbox.exited()).toEqual({ code: 125, signal: null });
  });

  test.each([
    [[], "launcher: arguments: the first argument is none of run, userns and guard: Invalid argument\n"],
    [["userns", "--", "id"], "launcher: arguments: --map is required: Invalid argument\n"],
    [["userns", "--map", "self"], "launcher: arguments: no command after --: Invalid argument\n"],
    [
      ["userns", "--map", "self", "--root", "/", "--", "id"],
      "launcher: arguments: unknown option: Invalid argument\n",
    ],
    [["run", "--map", "self", "--", "id"], /--root, --scratch and --vsock-dir are required/],
    [["userns", "--map", "0:1:0", "--", "id"], /--map is neither/],
    [["userns", "--map", "0:1:4294967296", "--", "id"], /--map is neither/],
    [["userns", "--map", "0:1:2:3", "--", "id"], /--map is neither/],
    [["userns", "--map", "self", "--map", "0:1:1", "--", "id"], /--map is neither/],
    [["userns", "--map", "self", "--report-fd", "2", "--", "id"], /--report-fd is not a descriptor above 2/],
    [["userns", "--map", "self", "--report-fd", "77", "--", "id"], /--report-fd is not open/],
  ] as const)("to stderr if there is no report descriptor: %j", async (parameters, message) => {
    const result = await launch(me, parameters);
    expect(result.code).toBe(125);
    expect(result.stdout).toBe("");
    expect(result.stderr).toMatch(message);
  });

  test.skipIf(!isRoot)("if root of the host asks for a sandbox as itself", async () => {
    const folders = ["--root", "/", "--scratch", "/tmp", "--vsock-dir", "/tmp", "--tmpfs-bytes", "1"];
    const result = await launch("root", ["run", "--map", "self", ...folders, "--", "/init"]);
    expect(result.stderr).toBe(
      "launcher: uid_map: root of the host must map a range, not itself: Operation not permitted\n",
    );
  });
});

describe("a machine that forbids the sandbox", () => {
  /** Runs the launcher below a shell that is uid 0 of a user namespace and changes something first. */
  async function launchBelow(sandbox: Sandbox, change: string) {
    const map = isRoot ? ["--map", `0:${RANGE_START}:65536`] : ["--map", "self"];
    const folders = ["--root", sandbox.tree, "--scratch", sandbox.scratch, "--vsock-dir", sandbox.vsock];
    const inner = ["run", "--map", "self", ...folders, "--tmpfs-bytes", "1000000", "--", "/opt/enclave/init"];
    const shell = ["sh", "-c", `${change} && exec "$@"`, "sh", workshop.launcher, ...inner];
    return launch(me, ["userns", ...map, "--", "unshare", "--mount", ...shell]);
  }

  test.each([
    [
      "user namespaces",
      "echo 0 > /proc/sys/user/max_user_namespaces",
      "userns: clone: No space left on device",
    ],
    [
      "a /proc that is not masked",
      "mount -t tmpfs none /proc/sys",
      "mount_proc: /proc: Operation not permitted",
    ],
    [
      "a /sys that is not masked",
      "mount -t tmpfs none /sys/kernel",
      "mount_sysfs: /sys: Operation not permitted",
    ],
  ])("is told by the step that needs %s", async (_name, change, message) => {
    await using sandbox = await prepareSandbox({ workshop, as: me });
    expect(await launchBelow(sandbox, change)).toMatchObject({ code: 125, stderr: `launcher: ${message}\n` });
  });
});

describe("launcher userns", () => {
  test("runs a command as uid 0 of one uid", async () => {
    const result = await launch("ordinary", [
      "userns",
      "--map",
      "self",
      "--",
      "sh",
      "-c",
      "id -u; id -g; cat /proc/self/uid_map",
    ]);
    expect(result.stderr).toBe("");
    expect(result.stdout).toMatch(/^0\n0\n +0 +[0-9]+ +1\n$/);
  });

  test("passes the exit status and the signal on", async () => {
    expect((await launch(me, ["userns", "--map", "self", "--", "sh", "-c", "exit 42"])).code).toBe(42);
    expect((await launch(me, ["userns", "--map", "self", "--", "sh", "-c", "kill -SEGV $$"])).code).toBe(139);
    expect((await launch(me, ["userns", "--map", "self", "--", "/not/there"])).code).toBe(125);
  });

  test.skipIf(!isRoot)("maps ranges as root and makes files of many owners", async () => {
    const folder = join(workshop.directory, "owners");
    await mkdir(folder);
    await chown(folder, RANGE_START, RANGE_START);
    const script = `cd ${folder} && touch a b && chown 1000:2000 b && stat -c %u:%g a b && id -G`;
    const maps = ["--map", `0:${RANGE_START}:1500`, "--map", `1500:${RANGE_START + 10_000}:1000`];
    const result = await launch("root", ["userns", ...maps, "--", "sh", "-c", script]);
    expect(result).toMatchObject({ stdout: "0:0\n1000:2000\n0\n", stderr: "" });
    const { stdout } = await run("stat", ["-c", "%u:%g", join(folder, "a"), join(folder, "b")]);
    expect(stdout).toBe(`${RANGE_START}:${RANGE_START}\n${RANGE_START + 1000}:${RANGE_START + 10_500}\n`);
  });

  test.skipIf(!isRoot)("asks newuidmap and newgidmap where the caller may not map", async () => {
    const tools = join(workshop.directory, "tools");
    await mkdir(tools);
    for (const name of ["newuidmap", "newgidmap"]) {
      await compileFixture("newidmap", join(tools, name));
      await chmod(join(tools, name), 0o4755);
    }
    const parameters = [
      "userns",
      "--map",
      "0:100000:1000",
      "--map",
      "1000:200000:5",
      "--",
      "cat",
      "/proc/self/uid_map",
      "/proc/self/gid_map",
    ];
    const result = await launch("ordinary", parameters, `${tools}:/usr/bin:/bin`);
    const rows = result.stdout
      .trim()
      .split("\n")
      .map((row) => row.trim().split(/ +/).join(" "));
    expect(result.stderr).toBe("");
    expect(rows).toEqual(["0 100000 1000", "1000 200000 5", "0 100000 1000", "1000 200000 5"]);
  });

  test.skipIf(!isRoot)("says that newuidmap is missing, or that it refused", async () => {
    const parameters = ["userns", "--map", "0:100000:65536", "--", "id"];
    const missing = await launch("ordinary", parameters, "/nonexistent");
    expect(missing).toMatchObject({
      code: 125,
      stderr: expect.stringMatching(/^launcher: newuidmap: cannot run it/),
    });
    const tools = join(workshop.directory, "refusing");
    await mkdir(tools);
    await copyFile("/bin/false", join(tools, "newuidmap"));
    const refused = await launch("ordinary", parameters, tools);
    expect(refused).toMatchObject({
      code: 125,
      stderr: expect.stringMatching(/^launcher: newuidmap: it refused the map/),
    });
  });

  test("ends its command when it is killed", async () => {
    const child = spawnAs(
      me,
      [workshop.launcher, "userns", "--map", "self", "--", "sleep", "600"],
      ["ignore", "ignore", "ignore"],
    );
    const closed = once(child, "close");
    const command = await until("the command runs", async () => {
      const { stdout } = await run("cat", [`/proc/${child.pid}/task/${child.pid}/children`]);
      const comm = await readFile(`/proc/${stdout.trim()}/comm`, "utf8").catch(() => "");
      return comm === "sleep\n" && stdout.trim();
    });
    child.kill("SIGKILL");
    await within("the launcher's end", closed);
    await expect.poll(() => isAlive(command), { timeout: 10_000 }).toBe(false);
  });
});
