import { once } from "node:events";
import { readFile, readdir, readlink, symlink } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { exists, isRoot, openSandbox, openWorkshop, type SandboxOptions, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

describe.each(isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const))(
  "the sandbox that %s makes",
  (as) => {
    const open = (options: Partial<SandboxOptions> = {}) => openSandbox({ workshop, as, ...options });

    test("is launched without a word on the report descriptor", async () => {
      await using sandbox = await open();
      await sandbox.nextAgent();
      expect(await sandbox.report()).toBe("");
    });

    test("runs init as PID 1 and the supervisor as its child, uid 0, leader of its own session", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const [pid, parent, session, uid, gid] = (await agent.ask("identity")).split(" ").map(Number);
      expect({ parent, session, uid, gid }).toEqual({ parent: 1, session: pid, uid: 0, gid: 0 });
      expect(await agent.ask("read /proc/1/comm")).toBe("init\n");
    });

    test("has no interface but loopback, and that is up", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const rows = (await agent.lines("read /proc/net/dev")).slice(2);
      expect(rows.map((row) => row.trim().split(":")[0])).toEqual(["lo"]);
      expect(await agent.ask("connect 127.0.0.1")).toBe("127.0.0.1");
      expect(await agent.ask("connect ::1")).toBe("::1");
    });

    test("reaches every address of the local ranges and tells which one was meant", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      expect(await agent.ask("connect 198.18.0.5")).toBe("198.18.0.5");
      expect(await agent.ask("connect 198.19.255.254")).toBe("198.19.255.254");
      expect(await agent.ask("connect fd50:5ce8:64ff::1")).toBe("fd50:5ce8:64ff::1");
      const isRedirected = !sandbox.stderr.includes("no redirection of connections");
      expect(await agent.ask("connect 198.20.0.1")).toBe(isRedirected ? "198.20.0.1" : "error ENETUNREACH");
    });

    test("shows nothing of the host's mounts", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const rows = (await agent.lines("read /proc/self/mountinfo")).map((row) => row.split(" "));
      const types = new Map(rows.map((row) => [row[4], row[row.indexOf("-") + 1]]));
      const device = (path: string) => types.get(path) === "devtmpfs" || types.get(path) === "tmpfs";
      for (const node of ["null", "zero", "full", "random", "urandom", "tty"])
        expect(device(`/dev/${node}`)).toBe(true);
      const rest = [...types].filter(
        ([path]) => !/^\/dev\/[a-z]+$/.test(path ?? "") && !path?.startsWith("/sys/fs/"),
      );
      expect(Object.fromEntries(rest)).toEqual({
        "/": "overlay",
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev": "tmpfs",
        "/run": "tmpfs",
        "/tmp": "tmpfs",
      });
    });

    test("cannot climb out of the vsock directory", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const inside = await agent.lines("list /proc/self/fd/3");
      expect(inside).toContain("guest");
      expect(await agent.lines("list /proc/self/fd/3/..")).toEqual(inside);
      expect(await agent.lines("list /proc/1/fd/3/../../..")).toEqual(inside);
    });

    test("lets the enclave make listeners in the vsock directory that the host reaches", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      expect(await agent.ask("listen 9001")).toBe("ok");
      const socket = connect(join(sandbox.vsock, "guest", "9001"));
      const [chunk]: Buffer[] = await once(socket, "data");
      socket.destroy();
      expect(chunk?.toString()).toBe("hello");
    });

    test("has the usual devices and links in /dev, and no other device", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      expect((await agent.lines("list /dev")).toSorted()).toEqual([
        ".",
        "..",
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
      expect(await agent.ask("stat /dev/null")).toMatch(/^20666 .* 103$/);
      expect(await agent.ask("stat /dev/pts/ptmx")).toMatch(/^20666 /);
      expect(await agent.ask("stat /tmp")).toMatch(/^41777 0 0 /);
      expect(await agent.ask("stat /run")).toMatch(/^40755 0 0 /);
      expect(await agent.ask("write /dev/null x")).toBe("ok");
    });

    test("takes its host name from the image, and has one of its own where the image has none", async () => {
      await using named = await open({ files: { "etc/hostname": "signer-1\n" } });
      expect(await (await named.nextAgent()).ask("read /proc/sys/kernel/hostname")).toBe("signer-1\n");
      await using nameless = await open();
      expect(await (await nameless.nextAgent()).ask("read /proc/sys/kernel/hostname")).toBe("localhost\n");
    });

    test("writes to the overlay and never to the tree", async () => {
      await using sandbox = await open({ files: { "etc/motd": "old" } });
      const agent = await sandbox.nextAgent();
      const before = (await readdir(sandbox.tree, { recursive: true })).toSorted();
      expect(await agent.ask("write /etc/motd new")).toBe("ok");
      expect(await agent.ask("write /created here")).toBe("ok");
      expect(await agent.ask("read /etc/motd")).toBe("new");
      expect(await readFile(join(sandbox.tree, "etc/motd"), "utf8")).toBe("old");
      expect((await readdir(sandbox.tree, { recursive: true })).toSorted()).toEqual(before);
      expect(await readdir(sandbox.scratch)).toEqual([]);
    });

    test("holds no more in its overlay than the tmpfs was given", async () => {
      await using sandbox = await open({ tmpfsBytes: 1 << 16 });
      const agent = await sandbox.nextAgent();
      const answers: string[] = [];
      for (let i = 0; i < 64; i++) answers.push(await agent.ask(`write /file${i} ${"x".repeat(4000)}`));
      expect(answers[0]).toBe("ok");
      expect(answers.at(-1)).toBe("error ENOSPC");
    });

    test("mounts parts of the host read-only where told, and makes the mount points", async () => {
      await using sandbox = await open({
        launcherArguments: [
          "--bind-ro",
          `${workshop.directory}:/host/work shop`,
          "--bind-ro",
          `${workshop.agent}:/host/file`,
        ],
      });
      const agent = await sandbox.nextAgent();
      expect(await agent.lines("list /host/work shop")).toContain("launcher");
      expect(await agent.ask("write /host/file x")).toMatch(/^error (EROFS|EACCES)/);
      expect(await agent.ask("read /proc/self/mountinfo")).toMatch(/ \/host\/file ro,nosuid,nodev/);
      expect(await exists(join(sandbox.tree, "host"))).toBe(false);
    });

    test("works in folders whose names hold colons, commas and spaces", async () => {
      await using sandbox = await open({ treeName: "a tree: with, all\\of it" });
      const agent = await sandbox.nextAgent();
      expect(await agent.ask("read /opt/enclave/supervisor.argv")).toBe("/agent\n");
    });

    test("follows the image's links inside the new root and not out of it", async () => {
      await using sandbox = await open({
        files: { "etc/motd": "image" },
        launcherArguments: ["--bind-ro", `${workshop.agent}:/link/here`],
        prepare: (sandbox) => symlink("../../../../../../../../../etc", join(sandbox.tree, "link")),
      });
      const agent = await sandbox.nextAgent();
      expect(await agent.ask("read /proc/self/mountinfo")).toContain(" /etc/here ro,");
      expect(await agent.ask("read /link/motd")).toBe("image");
    });

    test("reaps orphans", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const pid = await agent.ask("orphan");
      await expect.poll(() => agent.ask(`stat /proc/${pid}`), { timeout: 10_000 }).toBe("error ENOENT");
    });

    test("bounds a fork bomb", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const [count, errno] = (await agent.ask("bomb 5000")).split(" ");
      expect(errno).toBe("EAGAIN");
      expect(Number(count)).toBeLessThan(4096);
      expect(Number(count)).toBeGreaterThan(1000);
    });

    test("keeps init under 2 MiB of memory", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      const status = await agent.ask("read /proc/1/status");
      const resident = Number(/^VmRSS:\s+([0-9]+) kB$/m.exec(status)?.[1]);
      expect(resident).toBeGreaterThan(0);
      expect(resident).toBeLessThan(2048);
    });

    test("is in other namespaces than the host, all of them", async () => {
      await using sandbox = await open();
      await sandbox.nextAgent();
      const pid = await sandbox.initPid();
      for (const kind of ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]) {
        expect(await readlink(`/proc/${pid}/ns/${kind}`)).not.toBe(await readlink(`/proc/self/ns/${kind}`));
      }
    });
  },
);
