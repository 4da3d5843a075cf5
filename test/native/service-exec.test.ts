import { spawn } from "node:child_process";
import { chmod, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute as executeProgram, type RunOptions } from "./execution.ts";
import { collect, isAlive, isRoot, NOBODY, openWorkshop, until, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
let tools: string;
beforeAll(async () => {
  workshop = await openWorkshop();
  tools = join(workshop.directory, "tools");
  for (const folder of ["first", "second"]) await mkdir(join(tools, folder), { recursive: true });
  const script = async (name: string, content: string, mode: number): Promise<void> => {
    await writeFile(join(tools, name), content);
    await chmod(join(tools, name), mode);
  };
  await script("first/tool", "#!/bin/sh\necho first\n", 0o644);
  await script("second/tool", "#!/bin/sh\necho second\n", 0o755);
  await script("first/locked", "#!/bin/sh\n", 0o644);
  await script("first/text", "echo not a program\n", 0o755);
  await script("first/strange", "#!/no/such/interpreter\n", 0o755);
});
afterAll(() => workshop[Symbol.asyncDispose]());

const execute = (parameters: readonly string[], options?: RunOptions) =>
  executeProgram(workshop.serviceExec, parameters, options);

/** Options of a service of one's own uid, then `command`. */
const plain = (...command: string[]): string[] => [
  "--uid",
  "0",
  "--gid",
  "0",
  "--cwd",
  "/",
  "--no-setid",
  "--",
  ...command,
];
const shell = (script: string): string[] => plain("/bin/sh", "-c", script);

describe("service-exec makes a service of a process", () => {
  test.skipIf(!isRoot)("with exactly its uid, gid and groups", async () => {
    const identity = ["--uid", "1234", "--gid", "2345", "--groups", "5,4000000000"];
    const result = await execute([
      ...identity,
      "--cwd",
      "/",
      "--",
      "grep",
      "-E",
      "^(Uid|Gid|Groups|CapEff)",
      "/proc/self/status",
    ]);
    expect(result.error).toBe("");
    expect(result.stdout.replaceAll(/[ \t]+/g, " ")).toBe(
      "Uid: 1234 1234 1234 1234\nGid: 2345 2345 2345 2345\nGroups: 5 4000000000 \nCapEff: 0000000000000000\n",
    );
  });

  test.skipIf(!isRoot)("without groups if none are named", async () => {
    const parameters = ["--uid", "1", "--gid", "2", "--groups", "", "--cwd", "/", "--", "id", "-G"];
    expect((await execute(parameters)).stdout).toBe("2\n");
  });

  test("with no_new_privs, a clean signal state and umask 022", async () => {
    const { stdout } = await execute(
      plain("grep", "-E", "^(NoNewPrivs|SigBlk|SigIgn|Umask)", "/proc/self/status"),
    );
    expect(stdout).toBe(
      "Umask:\t0022\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nNoNewPrivs:\t1\n",
    );
  });

  test("that leads a session of its own and keeps its pid", async () => {
    const { stdout } = await execute(shell("cut -d' ' -f1,5,6 /proc/$$/stat; echo $$"));
    const [pid, group, session, self] = stdout.split(/\s+/);
    expect([group, session, self]).toEqual([pid, pid, pid]);
  });

  test("without any descriptor above 2", async () => {
    const { stdout } = await execute(shell("ls /proc/$$/fd"));
    expect(stdout.split("\n").filter((line) => line !== "" && line !== "10")).toEqual(["0", "1", "2"]);
  });

  test("with the environment as it came and in its directory", async () => {
    const environment = { PATH: "/usr/bin:/bin", "ODD-name": "a=b", EMPTY: "" };
    const parameters = ["--uid", "0", "--gid", "0", "--no-setid", "--cwd", tools, "--", "env"];
    expect((await execute(parameters, { environment })).stdout.trim().split("\n").toSorted()).toEqual([
      "EMPTY=",
      "ODD-name=a=b",
      "PATH=/usr/bin:/bin",
    ]);
    expect((await execute([...parameters.slice(0, -1), "/bin/pwd"])).stdout).toBe(`${tools}\n`);
  });

  test("that dies with the process that started it", async () => {
    const pidFile = join(workshop.directory, "service.pid");
    const command = `"$@" & wait`;
    const service = shell(`echo $$ > ${pidFile}; exec sleep 600`);
    const parent = spawn("/bin/sh", ["-c", command, "sh", workshop.serviceExec, ...service], {
      stdio: "ignore",
    });
    const pid = await until("the service runs", async () => {
      const line = await readFile(pidFile, "utf8").catch(() => "");
      return line.endsWith("\n") && line.trim();
    });
    parent.kill("SIGKILL");
    await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
  });

  test("also where descriptor 3 is not open", async () => {
    expect(await execute(shell("exit 7"), { errorPipe: false })).toMatchObject({ code: 7, stderr: "" });
    expect(await execute(plain("/not/there"), { errorPipe: false })).toMatchObject({ code: 127, stderr: "" });
  });
});

describe("service-exec looks programs up", () => {
  const find = (program: string, path: string) => execute(plain(program), { environment: { PATH: path } });

  test("in the PATH of the service, past what may not be executed", async () => {
    expect((await find("tool", `${tools}/first:${tools}/second`)).stdout).toBe("second\n");
  });

  test("and prefers to say that it may not be executed", async () => {
    const result = await find("locked", `${tools}/none:${tools}/first:${tools}/second`);
    expect(result).toMatchObject({ code: 126, error: "exec EACCES locked: Permission denied\n" });
  });

  test("and says that it does not exist", async () => {
    for (const path of [`${tools}/first`, "", ":", "/x".repeat(5000)]) {
      expect(await find("nothing", path)).toMatchObject({
        code: 127,
        error: "exec ENOENT nothing: No such file or directory\n",
      });
    }
    expect(await find("", "/bin")).toMatchObject({ code: 127 });
    expect(await find("/no/tool", "/bin")).toMatchObject({ code: 127 });
    expect(await find("strange", `${tools}/first`)).toMatchObject({ code: 127 });
  });

  test("never in the working directory, and never by way of a shell", async () => {
    const inFolder = ["--uid", "0", "--gid", "0", "--no-setid", "--cwd", `${tools}/second`, "--", "tool"];
    expect(await execute(inFolder, { environment: { PATH: ":/nowhere" } })).toMatchObject({
      code: 127,
      stdout: "",
    });
    const result = await find("text", `${tools}/first`);
    expect(result).toMatchObject({ code: 126, error: "exec ENOEXEC text: Exec format error\n", stdout: "" });
  });

  test("in the usual folders where there is no PATH", async () => {
    expect((await execute(plain("true"), { environment: {} })).code).toBe(0);
  });
});

describe("service-exec refuses", () => {
  test.each([
    [[], "--uid, --gid and --cwd are required"],
    [["--uid", "0", "--gid", "0", "--", "x"], "--uid, --gid and --cwd are required"],
    [["--uid", "0", "--cwd", "/", "--", "x"], "--uid, --gid and --cwd are required"],
    [["--uid", "0", "--gid", "0", "--cwd", "/"], "no program after --"],
    [["--uid", "0", "--gid", "0", "--cwd", "/", "--"], "no program after --"],
    [["--uid"], "option without a value"],
    [["--uid", "-1"], "--uid is not a number"],
    [["--uid", "4294967295"], "--uid is not a number"],
    [["--uid", "99999999999999999999"], "--uid is not a number"],
    [["--gid", "0x1"], "--gid is not a number"],
    [["--groups", "1,,2"], "--groups is not a list of at most 64 numbers"],
    [["--groups", "1,a"], "--groups is not a list of at most 64 numbers"],
    [["--groups", "1,".repeat(64) + "1"], "--groups is not a list of at most 64 numbers"],
    [["--what", "x"], "unknown option"],
    [["--cgroup", "relative"], "--cgroup is not an absolute path, or there are more than 16"],
    [["--cap", "64"], "--cap is not the number of a capability"],
    [["--cap", "CAP_CHOWN"], "--cap is not the number of a capability"],
    [["--oom-score", "1001"], "--oom-score is not a number from -1000 to 1000"],
    [["--oom-score", "--1"], "--oom-score is not a number from -1000 to 1000"],
    [["--oom-score", "-"], "--oom-score is not a number from -1000 to 1000"],
    [["--seccomp"], "option without a value"],
  ] as const)("%j", async (parameters, message) => {
    expect(await execute(parameters)).toMatchObject({
      code: 126,
      error: `arguments EINVAL ${message}: Invalid argument\n`,
      stdout: "",
    });
  });

  test.each([
    ["--cgroup", "/x"],
    ["--rlimit", "core=0:0"],
  ])("more than 16 of %s", async (name, value) => {
    const parameters = Array.from({ length: 17 }, () => [name, value]).flat();
    expect((await execute(parameters)).error).toMatch(/^arguments EINVAL .* or there are more than 16:/);
  });

  test("a directory that is not there, naming it on one line", async () => {
    const parameters = ["--uid", "0", "--gid", "0", "--no-setid", "--cwd", "/not\nthere", "--", "true"];
    expect(await execute(parameters)).toMatchObject({
      code: 126,
      error: "directory ENOENT /not?there: No such file or directory\n",
    });
  });

  test.skipIf(!isRoot)("a directory that the service's own user may not enter", async () => {
    const closed = join(workshop.directory, "closed");
    await mkdir(closed, { mode: 0o700 });
    const parameters = ["--uid", String(NOBODY), "--gid", String(NOBODY), "--cwd", closed, "--", "true"];
    expect((await execute(parameters)).error).toBe(`directory EACCES ${closed}: Permission denied\n`);
  });

  test("an identity that it cannot take", async () => {
    const setpriv = ["--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups"];
    const command = [workshop.serviceExec, "--uid", "0", "--gid", "0", "--cwd", "/", "--", "true"];
    const child = isRoot
      ? spawn("setpriv", [...setpriv, ...command], { stdio: ["ignore", "ignore", "ignore", "pipe"] })
      : spawn(workshop.serviceExec, command.slice(1), { stdio: ["ignore", "ignore", "ignore", "pipe"] });
    expect(await collect(child, 3)).toBe("groups EPERM true: Operation not permitted\n");
  });
});

describe("--mkfifo makes the pipes of a service", () => {
  const own = [String(process.getuid?.() ?? 0), String(process.getgid?.() ?? 0)];

  test("owned by the service and for nobody else, in the place of older ones", async () => {
    const owner = isRoot ? ["4242", "4243"] : own;
    const paths = ["one", "two"].map((name) => join(tools, name));
    for (const round of [1, 2]) {
      expect(await execute(["--mkfifo", ...owner, ...paths]), `round ${round}`).toMatchObject({
        code: 0,
        error: "",
      });
      for (const path of paths) {
        const info = await stat(path);
        expect(info.isFIFO()).toBe(true);
        expect([info.mode & 0o777, String(info.uid), String(info.gid)]).toEqual([0o600, ...owner]);
      }
    }
  });

  test.each([
    ["no path", ["--mkfifo", ...own], /^arguments EINVAL/],
    ["an owner that is no number", ["--mkfifo", "root", "0", "/tmp/x"], /^arguments EINVAL/],
    [
      "a folder that is not there",
      ["--mkfifo", ...own, "/no/such/folder/x"],
      /^mkfifo ENOENT \/no\/such\/folder\/x/,
    ],
  ])("refuses %s", async (_title, parameters, error) => {
    const result = await execute(parameters);
    expect(result.error).toMatch(error);
    expect(result.code).toBe(126);
  });
});
