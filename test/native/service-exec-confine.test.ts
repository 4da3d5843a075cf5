import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants, open } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { execute, openEquippedSandbox, runInside, SELF, userOf } from "./execution.ts";
import { collect, isRoot, openWorkshop, spawnAs, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

/** Somewhere that a confined service runs: a shell script in, what it printed out. */
interface Place extends AsyncDisposable {
  /** Runs a script as the supervisor would, not confined. */
  before(script: string): Promise<string>;
  confined(script: string, identity?: readonly string[]): Promise<string>;
}

/**
 * The test's own machine. A private copy of its mounts, made anew for each script, has the folder of the supervisor's
 * sockets; `before` is what would happen in it.
 */
function openMachine(): Promise<Place> {
  const prepare = "mount -t tmpfs none /run && mkdir -m 755 /run/enclave && echo x >/run/enclave/secret";
  const run = async (script: string, options: readonly string[]): Promise<string> => {
    const command = ["-m", "sh", "-c", `${prepare} && exec "$@"`, "sh", ...options, "/bin/sh", "-c", script];
    const { stdout, stderr, error } = await execute("unshare", command);
    return error + stdout + stderr;
  };
  return Promise.resolve({
    before: (script) => run(script, []),
    confined: (script, identity = SELF) =>
      run(script, [workshop.serviceExec, ...identity, "--confine", "--"]),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

async function openInside(as: "root" | "ordinary"): Promise<Place> {
  const { sandbox, agent } = await openEquippedSandbox(workshop, as);
  const run = async (script: string, options: readonly string[]): Promise<string> => {
    const { error, output } = await runInside(agent, [...options, "/bin/sh", "-c", script]);
    return error + output;
  };
  const place: Place = {
    before: (script) => run(script, []),
    confined: (script, identity = SELF) => run(script, ["/service-exec", ...identity, "--confine", "--"]),
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
  await place.before("mkdir -m 755 /run/enclave; echo x >/run/enclave/secret");
  return place;
}

const PLACES = [
  ["on a machine of its own", openMachine, isRoot],
  ["in a sandbox that root makes", () => openInside("root"), isRoot],
  ["in a sandbox of one uid", () => openInside("ordinary"), true],
] as const;

const MOUNTS = "cat /proc/self/mountinfo";

/** "ro" or "rw" for each place; of mounts over one another the last one, which is what is seen. */
function readModes(mountinfo: string): ReadonlyMap<string, string> {
  const rows = mountinfo.trim().split("\n");
  return new Map(rows.map((row) => row.split(" ")).map((row) => [row[4] ?? "", (row[5] ?? "").slice(0, 2)]));
}

const ATTEMPTS = [
  "umount /run/enclave",
  "umount -l /dev",
  "umount /proc/sys",
  "mount -o remount,bind,rw /sys",
];
/** Prints what succeeds, then what is in the supervisor's folder. */
const TAKE_BACK = `${ATTEMPTS.map((attempt) => `${attempt} 2>/dev/null && echo ${attempt}`).join("; ")}; ls -A /run/enclave`;

for (const [name, openPlace, possible] of PLACES) {
  describe.skipIf(!possible)(`a confined service ${name}`, () => {
    let place: Place;
    beforeAll(async () => {
      place = await openPlace();
    });
    afterAll(() => place[Symbol.asyncDispose]());

    test("finds the usual devices and links in /dev, and nothing else", async () => {
      expect((await place.confined("ls /dev")).trim().split("\n").toSorted()).toEqual([
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
      ]);
      const script = "for n in null zero full random urandom tty; do stat -c %F:%t:%T:%a /dev/$n; done";
      expect(await place.confined(script)).toBe(
        ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"]
          .map((numbers) => `character special file:${numbers}:666\n`)
          .join(""),
      );
    });

    test("finds no security module where the machine has none, asked for or not", async () => {
      const devices = await place.confined("ls /dev");
      expect(await place.confined("ls /dev", [...SELF, "--nsm"])).toBe(devices);
      expect(devices).not.toContain("nsm");
    });

    test("can use its devices", async () => {
      const script = "echo x >/dev/null && head -c 8 /dev/zero /dev/urandom | wc -c; ls -A /dev/pts";
      expect(await place.confined(script)).toMatch(/^[0-9]+\nptmx\n$/);
      expect(await place.confined("cat /dev/zero >/dev/full")).toMatch(/No space left/);
    });

    test("has memory of its own to share, 64 MiB of it", async () => {
      const script =
        'echo "$(stat -c %a /dev/shm) $(($(stat -f -c "%b * %S" /dev/shm)))"; echo x >/dev/shm/x && ls /dev/shm';
      expect(await place.confined(script)).toBe(`1777 ${64 << 20}\nx\n`);
      expect(await place.confined("ls /dev/shm")).toBe("");
    });

    test("opens its output by name", async () => {
      // A pipe whose other end somebody else holds, as the supervisor holds it.
      expect(await place.confined("(echo three >/dev/stdout; echo four >>/dev/stderr) 2>&1 | cat")).toBe(
        "three\nfour\n",
      );
    });

    test("cannot change the machine through /sys and /proc", async () => {
      const modes = readModes(await place.confined(MOUNTS));
      const places = "/sys /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus /proc/fs";
      const present = (await place.before(`ls -d ${places} 2>/dev/null`)).trim().split("\n");
      expect(present).toEqual(expect.arrayContaining(["/sys", "/proc/sys"]));
      for (const path of present) expect([path, modes.get(path)]).toEqual([path, "ro"]);
      for (const [path, mode] of modes)
        if (path.startsWith("/sys/")) expect([path, mode]).toEqual([path, "ro"]);
      for (const path of ["/proc/sys/kernel/hostname", "/sys/fs/cgroup/x", "/sys/kernel/x"])
        expect(await place.confined(`echo x >${path}`)).toMatch(/Read-only file system|Permission denied/);
      expect(await place.confined("mkdir /sys/fs/cgroup/x")).toMatch(/Read-only file system/);
      expect(await place.before("cat /proc/sys/kernel/hostname")).not.toBe("x\n");
    });

    test("does not see what belongs to the machine as a whole", async () => {
      const script =
        "for p in /proc/kcore /proc/keys /proc/timer_list; do test -e $p && stat -c %t:%T $p; done";
      const rows = (await place.confined(script)).trim().split("\n");
      expect(rows.length).toBeGreaterThan(0);
      expect(new Set(rows)).toEqual(new Set(["1:3"]));
      expect(await place.confined("cat /proc/keys")).toBe("");
    });

    test("finds the supervisor's folder empty and read-only", async () => {
      expect(await place.before("cat /run/enclave/secret")).toBe("x\n");
      expect(await place.confined("ls -A /run/enclave; stat -c %a /run/enclave")).toBe("755\n");
      expect(await place.confined("echo x >/run/enclave/y")).toMatch(/Read-only file system/);
    });

    test("cannot take any of it back", async () => {
      expect(await place.confined(`${TAKE_BACK}; mount -t tmpfs none /mnt 2>/dev/null && echo mounted`)).toBe(
        "",
      );
      // In a user namespace of its own it has every capability, but what covers something is locked there.
      const entered = "mount -t tmpfs none /proc && echo privileged";
      expect(await place.confined(`unshare -Um --keep-caps sh -c '${TAKE_BACK}; ${entered}'`)).toBe(
        "privileged\n",
      );
    });

    test("cannot look into the process that started it, and past the cover by way of that", async () => {
      // Of the same uid, but it has capabilities.
      const script =
        "for p in root cwd exe ns/mnt fd/0 fd/2; do readlink /proc/$PPID/$p && echo $p; done; cat /proc/$PPID/environ";
      expect(await place.before("readlink /proc/$PPID/ns/mnt")).toMatch(/^mnt:/);
      expect(await place.confined(script)).toMatch(/^cat: \/proc\/[0-9]+\/environ: Permission denied\n$/);
    });

    test("does not change what the supervisor sees", async () => {
      const before = await place.before(`ls /dev | sort; ${MOUNTS} | cut -d" " -f5-`);
      await place.confined("echo x >/dev/shm/only-mine");
      expect(await place.before(`ls /dev | sort; ${MOUNTS} | cut -d" " -f5-`)).toBe(before);
    });

    test.skipIf(name.includes("one uid"))("sees the same under a uid of its own", async () => {
      const script = `id -u; ls /dev | wc -l; ls -A /run/enclave; echo x >/dev/shm/x; cat /dev/shm/x; echo x >/proc/sys/kernel/hostname`;
      expect(await place.confined(script, userOf(1000))).toMatch(/^1000\n13\nx\n.*(Read-only|denied)/);
    });
  });
}

describe.each(isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const))(
  "a confined service with a terminal in a sandbox that %s makes",
  (as) => {
    test("has one of its own", async () => {
      const { sandbox, agent } = await openEquippedSandbox(workshop, as);
      await using _ = sandbox;
      const script = "tty; stty size; echo here >/dev/tty; exit 5";
      const command = ["/service-exec", ...SELF, "--confine", "--tty", "--", "/bin/sh", "-c", script];
      expect(await runInside(agent, command)).toEqual({
        status: 5,
        error: "",
        output: "",
        echo: "/dev/pts/0\r\n24 80\r\nhere\r\n",
      });
    });

    test("tells a program that does not exist through descriptor 3", async () => {
      const { sandbox, agent } = await openEquippedSandbox(workshop, as);
      await using _ = sandbox;
      const command = ["/service-exec", ...SELF, "--confine", "--tty", "--", "/nothing"];
      expect(await runInside(agent, command)).toMatchObject({
        status: 127,
        error: "exec ENOENT /nothing: No such file or directory\n",
      });
    });
  },
);

test.skipIf(!isRoot)(
  "a confined service opens its output by name where that is a pipe of its own",
  async () => {
    const path = join(workshop.directory, "output");
    await execute(workshop.serviceExec, ["--mkfifo", "1000", "1000", path]);
    await using pipe = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
    const parameters = [
      ...userOf(1000),
      "--confine",
      "--",
      "sh",
      "-c",
      "echo one >/dev/stdout; echo two >/dev/fd/2",
    ];
    const child = spawn(workshop.serviceExec, parameters, { stdio: ["ignore", pipe.fd, pipe.fd, "pipe"] });
    const closed = once(child, "close");
    expect(await collect(child, 3)).toBe("");
    await closed;
    expect((await pipe.read(Buffer.alloc(100), 0, 100, null)).bytesRead).toBe(8);
  },
);

test("a service is not started where it cannot be confined", async () => {
  const child = spawnAs(
    "ordinary",
    [workshop.serviceExec, ...SELF, "--confine", "--", "true"],
    ["ignore", "ignore", "ignore", "pipe"],
  );
  expect(await collect(child, 3)).toBe("confine EPERM /: Operation not permitted\n");
});
