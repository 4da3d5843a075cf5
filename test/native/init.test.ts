import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { decodeInitLine } from "../../wire/init-line.ts";
import { isRoot, openSandbox, openWorkshop, type SandboxOptions, type Workshop } from "./sandbox.ts";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

const open = (options: Partial<SandboxOptions> = {}) =>
  openSandbox({ workshop, as: isRoot ? "root" : "ordinary", ...options });

const SIGKILL = 9;
const SIGSEGV = 11;

describe("init starts the supervisor", () => {
  test("with the arguments of the image, then its generation and the end of the one before", async () => {
    await using sandbox = await open({ supervisor: ["/agent", "one argument", "", "--x=ü"] });
    const agent = await sandbox.nextAgent();
    expect((await agent.ask("arguments")).split("\n").slice(0, -1)).toEqual([
      "/agent",
      "one argument",
      "",
      "--x=ü",
      "--generation",
      "1",
      "--previous-exit",
      "none",
    ]);
  });

  test("with exactly the descriptors 0 to 4, and nothing of its own or of the host", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    const links = (await agent.lines("descriptors")).map((line) => line.split(" "));
    const own = links.filter(
      ([, target]) => !target?.startsWith("socket:") && !target?.startsWith("anon_inode:"),
    );
    expect(links.slice(0, 5).map(([fd]) => fd)).toEqual(["0", "1", "2", "3", "4"]);
    expect(links[0]?.[1]).toBe("/dev/null");
    expect(links[4]?.[1]).toMatch(/^pipe:/);
    // The agent opens sockets and a signalfd of its own above 4, and nothing else.
    expect(own.map(([fd]) => fd)).toEqual(["0", "3", "4"]);
  });

  test("with a clean environment, signal mask and dispositions", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    expect(await agent.lines("environment")).toEqual([
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "HOME=/root",
      "LANG=C.UTF-8",
    ]);
    const status = await agent.ask("read /proc/self/status");
    expect(status).toMatch(/^SigIgn:\t0000000000000000$/m);
    // The agent blocks SIGINT (2) and SIGTERM (15) itself; init has blocked SIGCHLD too.
    expect(status).toMatch(/^SigBlk:\t0000000000004002$/m);
    expect(await agent.ask("read /proc/self/limits")).toMatch(/^Max processes +4096 +4096 /m);
  });

  test("after the heartbeat, and also where the host does not answer it", async () => {
    await using sandbox = await open();
    await sandbox.nextAgent();
    expect(sandbox.heartbeats).toBe(1);
    await using mute = await open({ heartbeat: false });
    await mute.nextAgent();
    await expect.poll(() => mute.stderr).toContain("init: no heartbeat: ETIMEDOUT\n");
  });
});

describe("init tells the host", () => {
  test("that the machine is ready, again after a restart", async () => {
    await using sandbox = await open();
    const first = await sandbox.nextAgent();
    await first.ask("notice ready");
    expect(await sandbox.reports.next("ready")).toBe("ready\n");
    first.tell("exit 1");
    const second = await sandbox.nextAgent();
    await second.ask("notice ready");
    expect(await sandbox.reports.next("ready")).toBe("ready\n");
  });

  test("nothing for a notice that is unknown, empty or too long", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    for (const notice of ["readyy", "fail", "fail  x", "x".repeat(512), `ready${" ".repeat(600)}`, "ready"]) {
      await agent.ask(`notice ${notice}`);
    }
    expect(await sandbox.reports.next("ready")).toBe("ready\n");
    agent.tell("exit 0");
    expect(decodeInitLine((await sandbox.reports.next("end")).trimEnd())).toMatchObject({ code: "poweroff" });
  });

  test("why the supervisor refused, escaped and cut to one line", async () => {
    const reason = `E_X a "quoted" \\ tab\there ${"long ".repeat(90)}`;
    await using sandbox = await open({ supervisor: ["/agent", "fail", reason] });
    const line = await sandbox.reports.next("the end");
    expect(Buffer.byteLength(line)).toBeLessThanOrEqual(512);
    const end = decodeInitLine(line.slice(0, -1));
    expect(end).toMatchObject({ kind: "end", code: "supervisor_refused" });
    expect(end).toHaveProperty("reason", expect.stringMatching(/^E_X: a "quoted" \\ tab\?here long /));
    expect(await sandbox.exited()).toEqual({ code: 1, signal: null });
  });

  test("that it has no supervisor to start", async () => {
    await using sandbox = await open({ supervisor: Array.from({ length: 33 }, () => "/agent") });
    expect(decodeInitLine((await sandbox.reports.next("the end")).trimEnd())).toEqual({
      kind: "end",
      code: "init_failed",
      reason: "more than 32 arguments in /opt/enclave/supervisor.argv",
    });
    await using large = await open({ supervisor: ["/agent", "x".repeat(4096)] });
    expect(await large.reports.next("the end")).toContain("supervisor.argv: EFBIG");
    expect(await large.exited()).toEqual({ code: 1, signal: null });
  });
});

describe("init outlives the supervisor", () => {
  test("kills all that it left and starts the next generation, telling how it ended", async () => {
    await using sandbox = await open();
    const first = await sandbox.nextAgent();
    const lingering = await first.ask("linger");
    first.tell(`kill ${SIGKILL}`);
    const second = await sandbox.nextAgent();
    expect(await second.ask(`stat /proc/${lingering}`)).toBe("error ENOENT");
    expect((await second.lines("arguments")).slice(-4)).toEqual([
      "--generation",
      "2",
      "--previous-exit",
      "killed(SIGKILL)",
    ]);
    second.tell("exit 78");
    const third = await sandbox.nextAgent();
    expect((await third.lines("arguments")).slice(-3)).toEqual(["3", "--previous-exit", "exited(78)"]);
    third.tell(`kill ${SIGSEGV}`);
    const fourth = await sandbox.nextAgent();
    expect((await fourth.lines("arguments")).slice(-3)).toEqual(["4", "--previous-exit", "killed(SIGSEGV)"]);
  });

  test("kills one that said it lives and then says nothing more, and starts the next", async () => {
    await using sandbox = await open();
    await (await sandbox.nextAgent()).ask("notice alive");
    const second = await sandbox.nextAgent();
    expect((await second.lines("arguments")).slice(-3)).toEqual(["2", "--previous-exit", "killed(SIGKILL)"]);
  }, 60_000);

  test("ends the machine when it dies again and again", async () => {
    await using sandbox = await open({ supervisor: ["/agent", "exit", "7"] });
    expect(decodeInitLine((await sandbox.reports.next("the end")).trimEnd())).toEqual({
      kind: "end",
      code: "supervisor_crash_loop",
      reason: "the supervisor died 6 times within 60 s; the last time it exited(7)",
    });
    expect(await sandbox.exited()).toEqual({ code: 1, signal: null });
    expect(sandbox.stderr.match(/^init: the supervisor exited\(7\)$/gm)).toHaveLength(6);
  });

  test("ends the machine when it cannot be executed", async () => {
    await using sandbox = await open({ supervisor: ["/not/there"] });
    const line = await sandbox.reports.next("the end");
    expect(decodeInitLine(line.trimEnd())).toMatchObject({ code: "supervisor_crash_loop" });
    await sandbox.exited();
    expect(sandbox.stderr).toContain("init: cannot execute /not/there: ENOENT\n");
  });
});

describe("init ends the machine", () => {
  test("with status 0 when the supervisor ends in order, and kills what is left", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    await agent.ask("linger");
    agent.tell("exit 0");
    expect(decodeInitLine((await sandbox.reports.next("the end")).trimEnd())).toMatchObject({
      code: "poweroff",
    });
    expect(await sandbox.exited()).toEqual({ code: 0, signal: null });
  });

  test.each(["SIGTERM", "SIGINT"] as const)("in order when the launcher gets %s", async (signal) => {
    await using sandbox = await open();
    await sandbox.nextAgent();
    sandbox.launcher.kill(signal);
    expect(decodeInitLine((await sandbox.reports.next("the end")).trimEnd())).toEqual({
      kind: "end",
      code: "poweroff",
      reason: "the supervisor ended in order",
    });
    expect(await sandbox.exited()).toEqual({ code: 0, signal: null });
  });

  test("without another start when the supervisor dies while stopping", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    await agent.ask("on-term 5");
    sandbox.launcher.kill("SIGTERM");
    expect(decodeInitLine((await sandbox.reports.next("the end")).trimEnd())).toEqual({
      kind: "end",
      code: "poweroff",
      reason: "the supervisor exited(5) during the shutdown",
    });
  });

  test("not because of SIGTERM alone: the supervisor decides how long stopping takes", async () => {
    await using sandbox = await open();
    const agent = await sandbox.nextAgent();
    await agent.ask("on-term -1");
    sandbox.launcher.kill("SIGTERM");
    expect(await agent.hear()).toBe("signal 15");
    sandbox.launcher.kill("SIGTERM");
    expect(await agent.hear()).toBe("signal 15");
    agent.tell("exit 0");
    expect(await sandbox.exited()).toEqual({ code: 0, signal: null });
  });

  test("also when SIGTERM comes before init listens", async () => {
    await using sandbox = await open();
    await sandbox.report();
    sandbox.launcher.kill("SIGTERM");
    expect(await sandbox.reports.next("the end")).toContain('"code":"poweroff"');
    expect(await sandbox.exited()).toEqual({ code: 0, signal: null });
  });
});
