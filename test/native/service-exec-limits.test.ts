import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute, hasCgroups, SELF, TestCgroup, userOf } from "./execution.ts";
import { isRoot, NOBODY, openWorkshop, type Workshop } from "./sandbox.ts";

const hasVersion1 = (await hasCgroups("pids")) && (await hasCgroups("memory"));
const hasVersion2 = await hasCgroups("unified");

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

const run = (options: readonly string[], ...command: string[]) =>
  execute(workshop.serviceExec, [...options, "--", ...command]);
const nobody = userOf(NOBODY);

// Skipped without root, or where the host's version 1 hierarchies are not mounted.
describe.skipIf(!hasVersion1)("--cgroup with version 1", () => {
  test("joins each hierarchy, also with a uid that may not", async () => {
    await using memory = await TestCgroup.make("memory", "join");
    await using pids = await TestCgroup.make("pids", "join");
    const options = [...nobody, "--cgroup", memory.directory, "--cgroup", pids.directory];
    const { stdout, error } = await run(options, "cat", "/proc/self/cgroup");
    expect(error).toBe("");
    for (const { directory } of [memory, pids]) {
      const [, , , , hierarchy, ...path] = directory.split("/");
      expect(stdout).toMatch(new RegExp(`^[0-9]+:${hierarchy}:/${path.join("/")}$`, "m"));
    }
  });

  test("charges what comes after it, before the program's first instruction", async () => {
    await using pids = await TestCgroup.make("pids", "charge");
    await writeFile(join(pids.directory, "pids.max"), "1");
    const { stdout, stderr } = await run(
      [...nobody, "--cgroup", pids.directory],
      "sh",
      "-c",
      "echo one; true & echo two",
    );
    expect(stdout).toBe("one\n");
    expect(stderr).toMatch(/fork/);
    expect(await readFile(join(pids.directory, "pids.events"), "utf8")).toMatch(/^max [1-9]/);
  });

  test("ends a program that takes more memory than its cgroup may hold, and counts it", async () => {
    await using memory = await TestCgroup.make("memory", "hog");
    await writeFile(join(memory.directory, "memory.limit_in_bytes"), String(16 << 20));
    const options = [...nobody, "--oom-score", "1000", "--cgroup", memory.directory];
    const { signal, error } = await run(options, "tail", "/dev/zero");
    expect({ signal, error }).toEqual({ signal: "SIGKILL", error: "" });
    expect(await readFile(join(memory.directory, "memory.oom_control"), "utf8")).toMatch(/^oom_kill [1-9]/m);
  });

  test("names the cgroup that cannot be joined", async () => {
    await using pids = await TestCgroup.make("pids", "gone");
    const missing = `${pids.directory}/missing`;
    const { error, code } = await run([...nobody, "--cgroup", missing], "true");
    expect({ error, code }).toEqual({
      error: `cgroup ENOENT ${missing}: No such file or directory\n`,
      code: 126,
    });
    expect((await run([...nobody, "--cgroup", `/${"x".repeat(5000)}`], "true")).error).toMatch(
      /^cgroup ENAMETOOLONG/,
    );
  });
});

describe.skipIf(!hasVersion2)("--cgroup with version 2", () => {
  test("joins it", async () => {
    await using cgroup = await TestCgroup.make("unified", "join");
    const { stdout } = await run([...nobody, "--cgroup", cgroup.directory], "cat", "/proc/self/cgroup");
    expect(stdout).toMatch(/^0::\/enclave-toolkit-test-[0-9]+-join$/m);
  });
});

describe("--rlimit", () => {
  const ulimit = (limits: readonly string[], ...flags: string[]) =>
    run(
      [...SELF, ...limits.flatMap((limit) => ["--rlimit", limit])],
      "sh",
      "-c",
      flags.map((flag) => `ulimit ${flag}`).join("; "),
    );

  test("sets the soft and the hard limit", async () => {
    const limits = ["nofile=20:30", "core=0:0", "fsize=1024:unlimited", "cpu=7:9"];
    const { stdout, error } = await ulimit(limits, "-Sn", "-Hn", "-Sc", "-Hc", "-Sf", "-St", "-Ht");
    expect(error).toBe("");
    // The shell counts file sizes in blocks of 512 bytes.
    expect(stdout.trim().split("\n")).toEqual(["20", "30", "0", "0", "2", "7", "9"]);
  });

  test("knows every limit of setrlimit but that of the address space", async () => {
    const names = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending";
    const table = await readFile("/proc/self/limits", "utf8");
    for (const name of [...names.split(" "), "stack"]) {
      // nice and rtprio are 0 unless somebody raised them, the others may be lowered to anything.
      const value = name === "nice" || name === "rtprio" ? "0:0" : "4000000:4000000";
      const { error } = await run([...SELF, "--rlimit", `${name}=${value}`], "true");
      expect(error === "" || error.startsWith(`rlimit EPERM ${name}:`), `${error}\n${table}`).toBe(true);
    }
    expect((await ulimit(["as=1:1"], "-a")).error).toMatch(
      /^arguments EINVAL --rlimit is not NAME=SOFT:HARD/,
    );
  });

  test.skipIf(!isRoot)(
    "holds for the service's own user, also where it leaves no room for service-exec",
    async () => {
      const { stdout, error } = await run(
        [...nobody, "--confine", "--rlimit", "nofile=4:4"],
        "sh",
        "-c",
        "ulimit -n",
      );
      expect(error).toBe("");
      expect(stdout).toBe("4\n");
    },
  );

  test("refuses what the kernel does not grant, naming it", async () => {
    const { error } = await run([...SELF, "--rlimit", "nofile=30:20"], "true");
    expect(error).toBe("rlimit EINVAL nofile: Invalid argument\n");
  });

  test.each([
    "nofile",
    "nofile=",
    "nofile=1",
    "nofile=1:",
    "nofile=:1",
    "nofile=1:2:3",
    "NOFILE=1:1",
    "=1:1",
    "nofile=-1:1",
    "nofile=1:Unlimited",
    "nofile=18446744073709551615:1",
    " nofile=1:1",
  ])("refuses %j", async (text) => {
    expect((await run([...SELF, "--rlimit", text], "true")).error).toMatch(
      /^arguments EINVAL --rlimit is not NAME=SOFT:HARD/,
    );
  });
});

describe("--oom-score", () => {
  test("makes the service the first to die", async () => {
    const { stdout } = await run([...SELF, "--oom-score", "777"], "cat", "/proc/self/oom_score_adj");
    expect(stdout).toBe("777\n");
  });

  test("is left as it is unless it is given", async () => {
    const { stdout } = await run(SELF, "cat", "/proc/self/oom_score_adj");
    expect(stdout).toBe(await readFile("/proc/self/oom_score_adj", "utf8"));
  });
});
