import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";

import { RESTART_TIMING } from "../../enclave/restart-policy.ts";
import type { DependencyCondition, Healthcheck, ServiceConfig } from "../../wire/enclave-config.ts";
import { listen, portOf } from "../pf-proxy/relay-chain.ts";
import { eventually } from "./eventually.ts";
import { isKitError } from "./kit-error.ts";
import { ManualClock } from "./manual-clock.ts";
import { isAlive, QUICK, RunningGroup } from "./running-group.ts";
import { shellService } from "./service-configs.ts";

const IS_ROOT = process.getuid?.() === 0;
const FOREVER = "exec sleep 1000";

function after(service: string, condition: DependencyCondition): Pick<ServiceConfig, "dependsOn"> {
  return { dependsOn: [{ service, condition }] };
}

function execCheck(script: string): Healthcheck {
  const test = { kind: "exec", command: ["sh", "-c", script] } as const;
  return { test, intervalMs: 20, timeoutMs: 2_000, retries: 2, startPeriodMs: 0 };
}

/** The order in which the words occur in the history; every one must. */
function order(history: readonly string[], ...words: string[]): string[] {
  const found = words.map((word) => ({ word, at: history.findIndex((line) => line.startsWith(word)) }));
  expect(
    found.filter(({ at }) => at === -1),
    history.join("\n"),
  ).toEqual([]);
  return found.sort((a, b) => a.at - b.at).map(({ word }) => word);
}

test("a one-shot service that ends with 0 has exited, any other has failed with its exact reason", async () => {
  await using running = await RunningGroup.start(() => [
    shellService("fine", "echo out; echo err >&2"),
    shellService("wrong", "exit 7"),
    shellService("crash", "kill -SEGV $$"),
    shellService("missing", "", { command: ["no-such-program"] }),
    shellService("folder", "true", { workingDir: "/no/such/folder" }),
    shellService("text", "", { command: ["/etc/passwd"] }),
  ]);
  expect((await running.untilState("fine", "exited")).reason).toBe("exited(0)");
  expect((await running.untilState("wrong", "failed")).reason).toBe("exited(7)");
  expect((await running.untilState("crash", "failed")).reason).toBe("crashed(SIGSEGV)");
  expect((await running.untilState("missing", "failed")).reason).toMatch(
    /^not executed: ENOENT no-such-program/,
  );
  expect((await running.untilState("folder", "failed")).reason).toMatch(
    /^not executed: ENOENT .*\(directory\)$/,
  );
  expect((await running.untilState("text", "failed")).reason).toMatch(/^not executed: EACCES/);
  expect(running.lines("fine").sort()).toEqual(["err", "out"]);
  expect(running.status("fine")).toMatchObject({ pid: null, restarts: 0, health: "none" });
});

test("a service gets its own environment, directory and nothing else", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService("env", "", {
      command: ["/usr/bin/env"],
      environment: { PATH: "/usr/bin", EMPTY: "" },
      workingDir: directory,
    }),
    shellService("look", "pwd; ls /proc/self/fd | tr '\\n' ' '; cat /proc/self/stat", {
      workingDir: directory,
    }),
  ]);
  await running.untilState("env", "exited");
  await running.untilState("look", "exited");
  expect(running.lines("env").sort()).toEqual(["EMPTY=", "HOME=/", "PATH=/usr/bin", "USER=tester"]);
  const [folder, rest = ""] = running.lines("look");
  expect(folder).toBe(running.directory);
  expect(rest).toMatch(/^0 1 2 3 /);
});

test.skipIf(!IS_ROOT)(
  "a service runs as its user with its groups and cannot gain privileges (needs root)",
  async () => {
    const user = { name: "web", uid: 12_345, gid: 23_456, groups: [34_567, 45_678], home: "/" };
    const script = "grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapEff)' /proc/self/status | tr -s '\\t ' ' '";
    await using running = await RunningGroup.start(() => [shellService("web", script, { user })], {
      setIdentity: true,
    });
    await running.untilState("web", "exited");
    expect(running.lines("web").map((line) => line.trim())).toEqual([
      "Uid: 12345 12345 12345 12345",
      "Gid: 23456 23456 23456 23456",
      "Groups: 34567 45678",
      "CapEff: 0000000000000000",
      "NoNewPrivs: 1",
    ]);
  },
);

test("waits for the conditions of compose before it starts a service", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService("web", FOREVER, after("db", "service_healthy")),
    shellService("db", FOREVER, {
      ...after("migrate", "service_completed_successfully"),
      healthcheck: execCheck(`test -e ${directory}/healthy`),
    }),
    shellService("migrate", "true", after("net", "service_started")),
    shellService("net", FOREVER),
  ]);
  await running.untilState("db", "running");
  expect(running.status("web")).toMatchObject({
    state: "waiting",
    reason: "waits for db: must be healthy, is running and starting",
  });
  await writeFile(join(running.directory, "healthy"), "");
  await running.untilState("web", "running");
  const expected = [
    "net running",
    "migrate running",
    "migrate exited",
    "db running",
    "db healthy",
    "web running",
  ];
  expect(order(running.history(), ...[...expected].reverse())).toEqual(expected);
});

test("a dependency that failed for good blocks its dependants, with the reason", async () => {
  await using running = await RunningGroup.start(() => [
    shellService("migrate", "exit 3"),
    shellService("web", FOREVER, after("migrate", "service_completed_successfully")),
    shellService("proxy", FOREVER, after("web", "service_started")),
  ]);
  expect((await running.untilState("web", "blocked")).reason).toBe("dependency migrate is failed: exited(3)");
  expect((await running.untilState("proxy", "blocked")).reason).toContain("dependency web is blocked");
});

test("policy on-failure restarts until the retries are used up, then fails", async () => {
  await using running = await RunningGroup.start(() => [
    shellService("web", "exit 1", { restart: { policy: "on-failure", maximumRetries: 3 } }),
  ]);
  expect(await running.untilState("web", "failed")).toMatchObject({ restarts: 3, reason: "exited(1)" });
  expect(running.history().filter((line) => line === "web running")).toHaveLength(4);
});

test("policy on-failure ends the retries with the first success", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService("web", `test -e ${directory}/again || { touch ${directory}/again; exit 1; }`, {
      restart: { policy: "on-failure" },
    }),
  ]);
  expect(await running.untilState("web", "exited")).toMatchObject({ restarts: 1, reason: "exited(0)" });
});

test("a service that exits at once for ever becomes a crash loop and is still tried", async () => {
  await using running = await RunningGroup.start(() => [
    shellService("web", "exit 1", { restart: { policy: "always" } }),
  ]);
  await running.untilState("web", "crash_loop");
  await eventually("more tries", () => running.status("web").restarts > 10);
  const states = running.history().filter((line) => /^web (backoff|crash_loop)/.test(line));
  expect(states.slice(0, 7)).toEqual([
    ...Array.from({ length: 5 }, () => "web backoff: exited(1)"),
    ...Array.from({ length: 2 }, () => "web crash_loop: exited(1)"),
  ]);
});

test("delays double, and a run of ten seconds ends the series", async () => {
  const clock = new ManualClock();
  await using running = await RunningGroup.start(
    (directory) => [
      shellService("web", `test -e ${directory}/stay || exit 1; exec sleep 1000`, {
        restart: { policy: "always" },
      }),
    ],
    { clock, timing: RESTART_TIMING },
  );
  const delays: number[] = [];
  for (let ends = 1; ends <= 3; ends += 1) {
    await running.untilState("web", "backoff");
    delays.push(...clock.delaysMs);
    if (ends === 3) await writeFile(join(running.directory, "stay"), "");
    clock.advance(delays.at(-1) ?? 0);
  }
  expect(delays).toEqual([100, 200, 400]);
  const { pid } = await running.untilState("web", "running");
  clock.advance(10_000);
  process.kill(pid ?? 0, "SIGKILL");
  expect((await running.untilState("web", "backoff")).reason).toBe("crashed(SIGKILL)");
  expect(clock.delaysMs).toEqual([100]);
});

test("a program that cannot be executed follows the restart policy too", async () => {
  await using running = await RunningGroup.start(() => [
    shellService("web", "", { command: ["/no/such"], restart: { policy: "always" } }),
  ]);
  const status = await running.untilState("web", "crash_loop");
  expect(status.reason).toMatch(/^not executed: ENOENT/);
  expect(running.history()).not.toContain("web running");
});

test("stop sends the stop signal to the whole group and says who asked for it", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService(
      "web",
      `sh -c 'trap "echo child; exit 0" USR1; echo $$ > ${directory}/child; while :; do sleep 0.01; done' &
       trap "echo parent; wait; exit 0" USR1; echo ready; wait; wait`,
      { stopSignal: "SIGUSR1", restart: { policy: "always" } },
    ),
  ]);
  await running.pidIn("child");
  await eventually("the parent's trap", () => running.lines("web").includes("ready"));
  await running.group.stopService("web");
  expect(running.status("web")).toMatchObject({ state: "stopped", reason: "stopped_by_operator", pid: null });
  expect(running.lines("web")).toEqual(expect.arrayContaining(["child", "parent"]));
});

test("a service that ignores the stop signal is killed with its children after the grace period", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService(
      "web",
      `trap "" TERM; sh -c 'trap "" TERM; echo $$ > ${directory}/child; while :; do sleep 1; done' & while :; do sleep 1; done`,
      { stopGracePeriodMs: 30 },
    ),
  ]);
  const child = await running.pidIn("child");
  const { pid } = running.status("web");
  await running.group.stopService("web");
  expect(running.status("web").state).toBe("stopped");
  await eventually("both gone", async () => !(await isAlive(child)) && !(await isAlive(pid ?? 0)));
});

test("when the main process ends by itself, the children it left are killed", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService("web", `sleep 1000 & echo $! > ${directory}/child`),
  ]);
  const child = await running.pidIn("child");
  await running.untilState("web", "exited");
  await eventually("the child is gone", async () => !(await isAlive(child)));
});

test("a grandchild in its own session holds up neither the end nor the next start", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService(
      "web",
      `setsid sh -c 'echo $$ > ${directory}/daemon; exec sleep 1000' & while ! test -s ${directory}/daemon; do :; done; echo last line`,
    ),
  ]);
  const daemon = await running.pidIn("daemon");
  await running.untilState("web", "exited");
  expect(await isAlive(daemon)).toBe(true);
  expect(running.lines("web")).toEqual(["last line"]);
  process.kill(daemon, "SIGKILL");
});

test("an operator stops, starts and restarts a service", async () => {
  await using running = await RunningGroup.start(
    () => [
      shellService("web", FOREVER, { restart: { policy: "always" } }),
      shellService("loop", "exit 1", { restart: { policy: "always" } }),
    ],
    { timing: { ...QUICK, backoff: { initialMs: 60_000, maximumMs: 60_000, jitter: 0 } } },
  );
  const first = await running.untilState("web", "running");
  await running.group.restartService("web");
  const second = await running.untilState("web", "running");
  expect(second.pid).not.toBe(first.pid);
  expect(await isAlive(first.pid ?? 0)).toBe(false);
  await running.untilState("loop", "backoff");
  await running.group.stopService("loop");
  expect(running.status("loop")).toMatchObject({ state: "stopped", reason: "stopped_by_operator" });
  running.group.startService("loop");
  await running.untilState("loop", "backoff");
  running.group.startService("web");
  expect(running.status("web").state).toBe("running");
  expect(() => running.group.startService("none")).toThrow(isKitError("E_SERVICE_UNKNOWN", /"none"/));
});

test("everything stops in reverse order of dependencies, and nothing starts any more", async () => {
  const trapping = 'trap "exit 0" TERM; echo up; while :; do sleep 0.01; done';
  await using running = await RunningGroup.start(() => [
    shellService("db", trapping, { restart: { policy: "always" } }),
    shellService("cache", trapping),
    shellService("web", trapping, {
      dependsOn: [
        { service: "db", condition: "service_started" },
        { service: "cache", condition: "service_started" },
      ],
    }),
    shellService("proxy", trapping, after("web", "service_started")),
    shellService("never", FOREVER, after("loop", "service_completed_successfully")),
    shellService("loop", "exit 1", { restart: { policy: "on-failure" } }),
  ]);
  await eventually("all up", () =>
    ["db", "cache", "web", "proxy"].every((name) => running.lines(name).length === 1),
  );
  await running.group.stopAll();
  const expected = ["proxy stopped", "web stopping", "web stopped", "cache stopping"];
  expect(order(running.history(), ...[...expected].reverse())).toEqual(expected);
  expect(running.group.services.map((service) => service.state.name)).toEqual(
    Array.from({ length: 6 }, () => "stopped"),
  );
  expect(() => running.group.startService("db")).toThrow(isKitError("E_ENCLAVE_STOPPING"));
});

test("the overall deadline kills what a chain of stubborn services leaves", async () => {
  const clock = new ManualClock();
  const stubborn = 'trap "" TERM; echo up; while :; do sleep 1; done';
  await using running = await RunningGroup.start(
    () => [
      shellService("a", stubborn, { stopGracePeriodMs: 500_000 }),
      shellService("b", stubborn, { stopGracePeriodMs: 500_000, ...after("a", "service_started") }),
    ],
    { clock },
  );
  await eventually("both up", () => ["a", "b"].every((name) => running.lines(name).length === 1));
  const pids = running.group.services.map((service) => service.status().pid ?? 0);
  const stopped = running.group.stopAll();
  await running.untilState("b", "stopping");
  clock.advance(100_000);
  await eventually("killed", async () => !(await Promise.all(pids.map(isAlive))).includes(true));
  clock.advance(2_000);
  await stopped;
  expect(running.history()).toContain("enclave stop deadline passed: killing what is left");
});

test("health goes from starting to healthy to unhealthy and back, with the last detail", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService("web", FOREVER, { healthcheck: execCheck(`cat ${directory}/health`) }),
  ]);
  const file = join(running.directory, "health");
  await writeFile(file, "");
  await eventually("healthy", () => running.status("web").health === "healthy");
  await rm(file);
  await eventually("unhealthy", () => running.status("web").health === "unhealthy");
  expect(running.status("web")).toMatchObject({
    state: "running",
    healthDetail: expect.stringContaining("No such file") as unknown,
  });
  await writeFile(file, "");
  await eventually("healthy again", () => running.status("web").health === "healthy");
  expect(running.status("web").healthDetail).toBe(null);
  const pid = running.status("web").pid ?? 0;
  process.kill(pid, "SIGKILL");
  expect((await running.untilState("web", "failed")).health).toBe("starting");
});

test("a tcp check sees the service that opens its port", async () => {
  const server = createServer((socket) => socket.destroy());
  await listen(server, { port: 0, host: "127.0.0.1" });
  const check = {
    test: { kind: "tcp", port: portOf(server) },
    intervalMs: 50,
    timeoutMs: 500,
    retries: 1,
    startPeriodMs: 0,
  } as const;
  await using running = await RunningGroup.start(() => [
    shellService("web", FOREVER, { healthcheck: check }),
  ]);
  await eventually("healthy", () => running.status("web").health === "healthy");
  server.close();
  await eventually("unhealthy", () => running.status("web").health === "unhealthy");
});

test("a check that hangs is killed with its children", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService("web", FOREVER, {
      healthcheck: {
        ...execCheck(`sleep 1000 & echo $! > ${directory}/hung; wait`),
        timeoutMs: 40,
        retries: 1,
      },
    }),
  ]);
  const hung = await running.pidIn("hung");
  await eventually("unhealthy", () => running.status("web").health === "unhealthy");
  expect(running.status("web").healthDetail).toBe("no answer within 40 ms");
  await running.group.stopService("web");
  await eventually("nothing hangs on", async () => !(await isAlive(hung)));
});

test("a service that forks for ever is stopped with everything it forked", async () => {
  await using running = await RunningGroup.start((directory) => [
    shellService(
      "bomb",
      `trap "" TERM; while :; do sleep 1000 & echo $! >> ${directory}/pids; sleep 0.01; done`,
      {
        stopGracePeriodMs: 20,
      },
    ),
  ]);
  const forked = (): Promise<string> => readFile(join(running.directory, "pids"), "utf8").catch(() => "");
  await eventually("many processes", async () => (await forked()).split("\n").length > 30);
  await running.group.stopService("bomb");
  const pids = (await forked()).trim().split("\n").map(Number);
  await eventually("all gone", async () => !(await Promise.all(pids.map(isAlive))).includes(true));
});

test("many starts leave no descriptor open", async () => {
  const count = async (): Promise<number> => (await readdir("/proc/self/fd")).length;
  await using running = await RunningGroup.start(() => [
    shellService("web", "exit 1", { restart: { policy: "always" } }),
  ]);
  await eventually("ten starts", () => running.status("web").restarts > 10);
  const before = await count();
  await eventually("fifty starts", () => running.status("web").restarts > 50);
  // Other tests of this process come and go; forty leaking starts would not hide among them.
  expect(await count()).toBeLessThan(before + 30);
});
