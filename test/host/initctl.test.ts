import { readFile, rename } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { ControlClient } from "../../control/control-client.ts";
import { dialEnclave } from "../../host/controller/enclave-dialer.ts";
import { enclavePaths } from "../../host/state/enclave-paths.ts";
import { FakeGateway, sendJson, serviceOf } from "../control/fake-gateway.ts";
import { ROOT, runCommand } from "../e2e/testbed.ts";
import { FakeEnclave } from "./fake-enclave.ts";

let enclave: FakeEnclave;

beforeEach(async () => {
  enclave = await FakeEnclave.open();
});
afterEach(() => enclave[Symbol.asyncDispose]());

describe("initctl status", () => {
  test("shows the enclave and a row for each service; it is what initctl does without a word", async () => {
    const { stdout, status } = await enclave.initctl("status");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^● fake\n +State: running\n +Mode: development/);
    expect(stdout).toMatch(/● web +running +7 /);
    expect((await enclave.initctl()).stdout.split("\n", 2)).toEqual(stdout.split("\n", 2));
  });

  test("with --json it is what the enclave says", async () => {
    const { stdout } = await enclave.initctl("status", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ name: "fake", services: enclave.gateway.services });
  });

  test("one service is shown at length: limits that do not hold, isolation, reason, usage, last lines", async () => {
    enclave.gateway.services = [
      serviceOf("web", {
        health: "unhealthy",
        healthDetail: "connection refused\u001B[2J",
        restarts: 3,
        reason: "memory_exceeded",
        notIsolated: "shares its user id with redis",
        limits: [
          { name: "memory", value: 64 * 1024 ** 2, enforced: true, why: null },
          { name: "cpus", value: 0.5, enforced: false, why: "no cgroups" },
        ],
      }),
    ];
    for (let index = 0; index < 12; index += 1)
      enclave.gateway.logs.push({
        seq: index + 1,
        time: index,
        service: "web",
        stream: "stdout",
        line: `line ${index}`,
      });
    const { stdout, status } = await enclave.initctl("status", "web");
    expect(status).toBe(0);
    expect(stdout.replaceAll(/^ +/gm, "").split("\n")).toEqual([
      "× web - enclave fake",
      expect.stringMatching(/^Active: running \(unhealthy\) since 2023-11-14 22:13:20 UTC; \d+d ago$/),
      "Main PID: 7",
      "User: web (uid 61184)",
      "Restarts: 3",
      "Reason: unhealthy: connection refused[2J",
      "Memory: 1.00 MiB",
      "Tasks: 2",
      "CPU: 1ms",
      "Limit: memory 64.0 MiB",
      "Limit: cpus 0.5 not enforced: no cgroups",
      "Isolation: not isolated: it shares its user id with redis",
      "",
      ...Array.from({ length: 10 }, (_, index) =>
        expect.stringMatching(new RegExp(`web \\| line ${index + 2}$`)),
      ),
      "",
    ]);
  });

  test("a named service that does not run is status 3, also with --json and for is-active", async () => {
    enclave.gateway.services = [serviceOf("web", { state: "failed", pid: null, reason: "exited(1)" })];
    expect(await enclave.initctl("status", "web")).toMatchObject({
      status: 3,
      stdout: expect.stringContaining("exited(1)"),
    });
    const json = await enclave.initctl("status", "web", "--json");
    expect(json.status).toBe(3);
    expect(JSON.parse(json.stdout)).toMatchObject([{ name: "web", state: "failed" }]);
    expect(await enclave.initctl("is-active", "web")).toMatchObject({ status: 3, stdout: "failed\n" });
    enclave.gateway.services = [serviceOf("web")];
    expect(await enclave.initctl("is-active", "web")).toMatchObject({ status: 0, stdout: "running\n" });
  });

  test("list has a row, or an object, for each service", async () => {
    expect((await enclave.initctl("list")).stdout.split("\n")).toHaveLength(4);
    expect(JSON.parse((await enclave.initctl("list", "--json")).stdout)).toEqual(enclave.gateway.services);
  });
});

describe("initctl start, stop, restart", () => {
  test("act on services and tell when it is done", async () => {
    expect(await enclave.initctl("stop", "web", "redis")).toMatchObject({
      status: 0,
      stdout: "web stopped: stopped\nredis stopped: stopped\n",
    });
    expect((await enclave.initctl("restart", "web")).stdout).toBe("web restarted: running\n");
    const { stdout } = await enclave.initctl("start", "redis", "--json");
    expect(JSON.parse(stdout)).toMatchObject([{ name: "redis", state: "running" }]);
  });

  test("wait until a service is healthy", async () => {
    const states = [serviceOf("web", { health: "starting" }), serviceOf("web", { health: "healthy" })];
    enclave.gateway.routes.set("POST /v1/services/web/start", (_request, response) =>
      sendJson(response, 200, serviceOf("web", { state: "starting" })),
    );
    enclave.gateway.routes.set("GET /v1/services/web", (_request, response) =>
      sendJson(response, 200, states.shift()),
    );
    expect((await enclave.initctl("start", "web")).stdout).toBe("web started: running (healthy)\n");
  });

  test("a service that does not come up is a failure with its reason", async () => {
    enclave.gateway.routes.set("POST /v1/services/web/start", (_request, response) =>
      sendJson(response, 200, serviceOf("web", { state: "backoff", pid: null, reason: "exited(1)" })),
    );
    const result = await enclave.initctl("start", "web");
    expect(result.status).toBe(9);
    expect(result.stderr).toMatch(/E_SERVICE_FAILED.*web is backoff: exited\(1\)/);
  });

  test("with --no-wait it is enough that the enclave has begun", async () => {
    enclave.gateway.routes.set("POST /v1/services/web/stop", () => {
      enclave.gateway.services = [serviceOf("web", { state: "stopping" })];
      return new Promise(() => undefined);
    });
    expect((await enclave.initctl("stop", "web", "--no-wait")).stdout).toBe("web is stopping\n");
  });

  test("a deadline ends the wait", async () => {
    enclave.gateway.routes.set("POST /v1/services/web/stop", () => new Promise(() => undefined));
    expect(await enclave.initctl("stop", "web", "--timeout", "300ms")).toMatchObject({ status: 124 });
  });

  test("nothing is done if one of the names is wrong", async () => {
    const result = await enclave.initctl("stop", "web", "rediss");
    expect(result.status).toBe(5);
    expect(result.stderr).toMatch(
      /E_SERVICE_UNKNOWN.*"rediss"; did you mean "redis"\?\nhint: The enclave has: web, redis/,
    );
    expect(enclave.gateway.seen.filter((one) => one.startsWith("POST"))).toEqual([]);
  });
});

describe("initctl logs and events", () => {
  beforeEach(() => {
    const entry = { stream: "stdout", time: 1 } as const;
    enclave.gateway.logs.push({ ...entry, seq: 1, service: "web", line: "hello\u001B]0;title\u0007" });
    enclave.gateway.logs.push({ ...entry, seq: 2, service: "redis", line: "ready", time: Date.now() });
  });

  test("are printed with names, or as JSON", async () => {
    expect((await enclave.initctl("logs")).stdout).toBe("web | hello]0;title\nredis | ready\n");
    expect((await enclave.initctl("logs", "redis", "-n", "5")).stdout).toBe("redis | ready\n");
    expect((await enclave.initctl("logs", "--since", "10m")).stdout).toBe("redis | ready\n");
    expect(JSON.parse((await enclave.initctl("logs", "redis", "--json")).stdout)).toMatchObject({ seq: 2 });
  });

  test("of a service that is not there are refused with a suggestion", async () => {
    expect((await enclave.initctl("logs", "wbe")).stderr).toMatch(/did you mean "web"/);
  });
});

describe("initctl for the whole enclave", () => {
  test("reload --image goes back to the image's own file", async () => {
    expect((await enclave.initctl("reload", "--image")).stdout).toBe("added: new\nunchanged: web\n");
    expect(enclave.gateway.bodies).toEqual([{}]);
  });

  test("reload refuses an enclave.yaml that is not there before it asks the enclave for anything", async () => {
    await enclave.record("fake", { file: join(enclave.stateDir, "gone.yaml") });
    const result = await enclave.initctl("reload");
    expect(result.stderr).toContain("E_CONFIG_NOT_FOUND");
    expect(enclave.gateway.seen).toEqual([]);
  });

  test("poweroff asks, and takes no names", async () => {
    const misuse = await enclave.initctl("poweroff", "web");
    expect(misuse.status).toBe(2);
    expect(misuse.stderr).toContain("initctl stop web");
    expect(enclave.gateway.seen).toEqual([]);
    expect(await enclave.initctl("poweroff")).toMatchObject({ status: 0 });
    expect(enclave.gateway.seen).toEqual(["POST /v1/poweroff"]);
  });

  test("stats is a table, or a sample a line", async () => {
    expect((await enclave.initctl("stats", "--interval", "100ms")).stdout).toMatch(/fake +redis +0\.0%/);
    const { stdout } = await enclave.initctl("stats", "--no-stream", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ name: "fake" });
  });

  test("without a name the running enclaves are named", async () => {
    const result = await runCommand(enclave.commandLine("initctl", ["status"]));
    expect(result.status).toBe(2);
    expect(result.stderr).toContain("hint: Say which: --enclave fake");
  });
});

test("every command has help with examples, and completion knows them", async () => {
  const initctl = async (...words: string[]): Promise<string> =>
    (await runCommand(enclave.commandLine("initctl", words))).stdout;
  const commands = [...(await initctl("--help")).matchAll(/^ {2}([a-z-]+) /gm)].map(
    (match) => match[1] ?? "",
  );
  expect(commands).toEqual(expect.arrayContaining(["status", "is-active", "restart", "poweroff"]));
  for (const command of commands.filter(
    (name) => !name.startsWith("-") && name !== "help" && name !== "initctl",
  ))
    expect(await initctl(command, "--help"), command).toContain("Examples:");
  const packageJson = await readFile(join(ROOT, "package.json"), "utf8");
  expect(packageJson).toContain(`"version": "${(await initctl("--version")).trim()}"`);
  const script = `${await initctl("completion", "bash")}\nCOMP_WORDS=(initctl is); COMP_CWORD=1; _initctl; echo $COMPREPLY`;
  expect((await runCommand(["bash", "-c", script])).stdout).toBe("is-active\n");
});

test("inside, where nobody answers at the gateway's socket, initctl says so", async () => {
  const result = await runCommand([process.execPath, join(ROOT, "dist", "initctl.mjs"), "status", "--json"]);
  expect(result.status).toBe(9);
  expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: "E_BACKEND_CONNECT" } });
});

describe("the way to the control API", () => {
  const signal = new AbortController().signal;
  const guestSocket = (): string => join(enclavePaths(enclave.stateDir, "fake").vsock, "guest", "9001");

  test("goes on trying while the gateway is started again", async () => {
    await enclave.gateway[Symbol.asyncDispose]();
    const dial = await dialEnclave(enclave.stateDir, "fake");
    const asked = new ControlClient(dial).status(signal);
    await using _again = await FakeGateway.open(guestSocket());
    expect(await asked).toMatchObject({ name: "fake" });
  });

  test("is given up when the enclave ends meanwhile", async () => {
    await enclave.gateway[Symbol.asyncDispose]();
    const dial = await dialEnclave(enclave.stateDir, "fake");
    const asked = new ControlClient(dial).status(signal);
    await enclave.record("fake", { state: "stopped" });
    await expect(asked).rejects.toMatchObject({ code: "E_HOST_NOT_RUNNING" });
  });

  test("is the handshake of hybrid vsock where the enclave's sockets are not on this host", async () => {
    const { vsock } = enclavePaths(enclave.stateDir, "fake");
    await rename(guestSocket(), join(enclave.stateDir, "far"));
    const handshakes: string[] = [];
    const server = createServer({ allowHalfOpen: true }, (tool) => {
      tool.once("data", (line) => {
        handshakes.push(line.toString());
        const far = connect({ path: join(enclave.stateDir, "far"), allowHalfOpen: true });
        tool.write("OK 1024\n");
        tool.pipe(far).pipe(tool);
      });
    });
    await new Promise<void>((resolve) => server.listen(join(vsock, "vsock.sock"), resolve));
    const client = new ControlClient(await dialEnclave(enclave.stateDir, "fake"));
    expect(await client.status(signal)).toMatchObject({ name: "fake" });
    expect(handshakes).toEqual(["CONNECT 9001\n"]);
    server.close();
  });

  test("a socket that nobody answers on is given up by the caller's deadline", async () => {
    await enclave.gateway[Symbol.asyncDispose]();
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(guestSocket(), resolve));
    const client = new ControlClient(await dialEnclave(enclave.stateDir, "fake"));
    await expect(client.status(AbortSignal.timeout(300))).rejects.toMatchObject({ name: "TimeoutError" });
    silent.close();
  });
});
