import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";

import type { EventEntry } from "../../wire/control.ts";
import type { ServiceConfig } from "../../wire/enclave-config.ts";
import { encodeIngressPreface, INGRESS_STATUS } from "../../wire/ingress-preface.ts";
import { GATEWAY_ID } from "../../wire/runtime-layout.ts";
import { dial } from "../pf-proxy/relay-chain.ts";
import { ROOT } from "../structure/source-files.ts";
import { eventually } from "./eventually.ts";
import { isAlive } from "./running-group.ts";
import { ndjson, RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const IS_ROOT = process.getuid?.() === 0;
const FOREVER = "exec sleep 1000";

/** A Node service that greets every connection and ends it. */
function greeter(port: number): ReturnType<typeof shellService> {
  const script = `require("node:net").createServer((s) => s.end("hello")).listen(${port}, "127.0.0.1")`;
  return shellService("web", "", {
    command: [process.execPath, "-e", script],
    healthcheck: {
      test: { kind: "tcp", port },
      intervalMs: 1_000,
      timeoutMs: 500,
      retries: 3,
      startPeriodMs: 5_000,
    },
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function readAll(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket.setEncoding("latin1")) text += String(chunk);
  return text;
}

test("tells init that it is ready once, runs services, and ends with 0 after poweroff", async () => {
  await using enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("web", "echo hi; exec sleep 1000")]),
    { arguments: ["--generation", "3", "--previous-exit", "killed(SIGKILL)", "--unknown"] },
  );
  await enclave.untilState("web", "running");
  expect(await enclave.status()).toMatchObject({
    name: "test",
    mode: "development",
    attestation: "development",
    supervisor: {
      pid: IS_ROOT ? enclave.process.pid : (expect.any(Number) as unknown),
      restarts: 2,
      previousExit: "killed(SIGKILL)",
    },
    gateway: { restarts: 0 },
    isolated: IS_ROOT,
    stopping: false,
    services: [{ name: "web", state: "running", restarts: 0, health: "none", reason: null }],
  });
  expect(await enclave.request("POST", "/v1/poweroff")).toEqual({ status: 202, text: "{}" });
  expect(await enclave.exited).toBe(0);
  expect(enclave.notices).toBe("ready\n");
  expect(await readFile(join(enclave.directory, "log", "web.log"), "utf8")).toMatch(/^\S+ stdout hi\n$/);
});

test.skipIf(!IS_ROOT)(
  "the gateway runs as its own user and gives its sockets the folder's group (needs root)",
  async () => {
    await using enclave = await RunningSupervisor.startReady(enclaveConfig([]));
    const { gateway } = await enclave.status();
    expect(await readFile(`/proc/${gateway.pid ?? 0}/status`, "utf8")).toMatch(
      new RegExp(`^Uid:\\t${GATEWAY_ID}\\t${GATEWAY_ID}`, "m"),
    );
    const socket = await stat(enclave.socketPath(9001));
    expect({ uid: socket.uid, gid: socket.gid, mode: socket.mode & 0o777 }).toEqual({
      uid: GATEWAY_ID,
      gid: 0,
      mode: 0o660,
    });
  },
);

test("events and followed logs reach their end when the enclave does, the last entries included", async () => {
  const script = 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.01; done';
  await using enclave = await RunningSupervisor.startReady(enclaveConfig([shellService("web", script)]));
  const events: string[] = [];
  const lines: string[] = [];
  const follow = async (): Promise<void> => {
    for await (const { line } of ndjson<{ line: string }>(
      await enclave.open("GET", "/v1/logs?follow=true"),
    )) {
      lines.push(line);
    }
  };
  const watch = async (): Promise<void> => {
    for await (const event of ndjson<EventEntry>(await enclave.open("GET", "/v1/events")))
      events.push(event.message);
  };
  const both = Promise.all([follow(), watch()]);
  await eventually("the first line", () => lines.length > 0);
  enclave.process.kill("SIGTERM");
  await both;
  expect(lines[0]).toBe("up");
  expect(lines).toContain("bye");
  expect(events.slice(-4)).toEqual([
    "stopping: SIGTERM",
    "stopping",
    "stopped: stopped_by_operator",
    "all services have ended",
  ]);
  expect(await enclave.exited).toBe(0);
});

test("a killed gateway is started again; services and their logs go on", async () => {
  await using enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("web", `echo hi; ${FOREVER}`)]),
  );
  const before = await enclave.untilState("web", "running");
  const { gateway } = await enclave.status();
  process.kill(gateway.pid ?? 0, "SIGKILL");
  const after = await eventually("a new gateway", async () => {
    const status = await enclave.status().catch(() => undefined);
    return status?.gateway.restarts === 1 ? status : undefined;
  });
  expect(after.gateway.pid).not.toBe(gateway.pid);
  expect(after.services[0]?.pid).toBe(before.pid);
  expect(await enclave.lines()).toEqual(["hi"]);
  expect(enclave.notices).toBe("ready\n");
  const response = await enclave.open("GET", "/v1/events");
  for await (const event of ndjson<EventEntry>(response))
    if (event.message === "gateway ended: crashed(SIGKILL)") break;
});

test("a gateway that speaks garbage is killed and started again, and never runs the enclave down", async () => {
  const gateway = join(ROOT, "test", "fixtures", "enclave", "garbage-gateway.ts");
  await using enclave = await RunningSupervisor.start(enclaveConfig([shellService("web", FOREVER)]), {
    gateway,
  });
  const log = join(enclave.directory, "log", "gateway.log");
  const starts = await eventually("several gateways", async () => {
    const text = await readFile(log, "utf8").catch(() => "");
    return text.split("\n").length > 4 ? text : undefined;
  });
  expect(starts).toMatch(/stdout garbage from \d+/);
  expect(enclave.process.exitCode).toBe(null);
  enclave.process.kill("SIGTERM");
  expect(await enclave.exited).toBe(0);
  expect(enclave.notices).toBe("");
});

test("ingress reaches published ports of services and nothing else", async () => {
  const port = await freePort();
  const hidden = await freePort();
  await using enclave = await RunningSupervisor.startReady(
    enclaveConfig([greeter(port), { ...greeter(hidden), name: "hidden" }], { ingressPorts: [port] }),
  );
  for (const name of ["web", "hidden"]) {
    await eventually(`${name} healthy`, async () => (await enclave.service(name)).health === "healthy");
  }
  const reach = async (target: number): Promise<string> => {
    const socket = await dial({ path: enclave.socketPath(8444) });
    socket.write(encodeIngressPreface(target));
    return readAll(socket);
  };
  expect(await reach(port)).toBe(`${String.fromCharCode(INGRESS_STATUS.connected)}hello`);
  expect(await reach(hidden)).toBe(String.fromCharCode(INGRESS_STATUS.notPublished));
});

test("in production the control port stays closed while ingress works", async () => {
  const port = await freePort();
  const config = enclaveConfig([{ ...greeter(port), user: WEB_USER }], {
    ingressPorts: [port],
    mode: "production",
    logs: { ship: false },
  });
  await using enclave = await RunningSupervisor.start(config, { uidMap: "0 0 4294967295\n" });
  await eventually("ready or refused", () => enclave.notices);
  if (!IS_ROOT) return;
  expect(enclave.notices).toBe("ready\n");
  const closed = connect({ path: enclave.socketPath(9001) });
  expect(await once(closed, "error")).toMatchObject([{ code: "ENOENT" }]);
  await eventually("the greeting", async () => {
    const socket = await dial({ path: enclave.socketPath(8444) });
    socket.write(encodeIngressPreface(port));
    return (await readAll(socket)) === "\0hello";
  });
});

test("SIGTERM stops services in order and leaves no process behind", async () => {
  await using enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("a", "sleep 1000 & sleep 1000"), shellService("b", FOREVER)]),
  );
  await enclave.untilState("a", "running");
  await enclave.untilState("b", "running");
  const { services, gateway } = await enclave.status();
  enclave.process.kill("SIGTERM");
  enclave.process.kill("SIGTERM");
  expect(await enclave.exited).toBe(0);
  const pids = [...services.map(({ pid }) => pid ?? 0), gateway.pid ?? 0];
  await eventually("all gone", async () => !(await Promise.all(pids.map(isAlive))).includes(true));
});

const WEB_USER = { name: "web", uid: 1000, gid: 1000, groups: [], home: "/" };

test.each([
  ["not JSON", "{", "E_ENCLAVE_CONFIG config: is not JSON in UTF-8"],
  [
    "another version",
    JSON.stringify({ ...enclaveConfig([]), version: 9 }),
    "E_ENCLAVE_CONFIG config.version",
  ],
  ["more than 1 MiB", " ".repeat(1024 * 1024 + 1), "E_ENCLAVE_CONFIG"],
])(
  "a configuration that is %s is refused for good: init is told and the status is 78",
  async (_, configText, notice) => {
    await using enclave = await RunningSupervisor.start(enclaveConfig([]), { configText });
    expect(await enclave.exited).toBe(78);
    expect(enclave.notices).toContain(`fail ${notice}`);
    expect(enclave.notices.endsWith("\n")).toBe(true);
    expect(enclave.notices.length).toBeLessThanOrEqual(512);
  },
);

test("an enclave without a vsock directory is refused", async () => {
  await using enclave = await RunningSupervisor.start(enclaveConfig([]), { vsock: false });
  expect(await enclave.exited).toBe(78);
  expect(enclave.notices).toContain("fail E_ENCLAVE_VSOCK no usable vsock directory on descriptor 3");
});

test("several users are refused where only one uid is mapped, unless the configuration allows it", async () => {
  const uidMap = "         0       1000          1\n";
  const services = [shellService("web", FOREVER, { user: WEB_USER })];
  await using refused = await RunningSupervisor.start(enclaveConfig(services, { singleUser: false }), {
    uidMap,
  });
  expect(await refused.exited).toBe(78);
  expect(refused.notices).toContain(
    "fail E_ENCLAVE_SINGLE_USER only one uid is mapped, but service web is to run as web",
  );
  await using allowed = await RunningSupervisor.startReady(enclaveConfig(services, { singleUser: true }), {
    uidMap,
  });
  await allowed.untilState("web", "running");
  expect((await allowed.status()).isolated).toBe(false);
});

test("one uid is refused in production, whatever the services want", async () => {
  const config = enclaveConfig([], { mode: "production", singleUser: true });
  await using enclave = await RunningSupervisor.start(config, { uidMap: "0 1000 1\n" });
  expect(await enclave.exited).toBe(78);
  expect(enclave.notices).toContain("fail E_ENCLAVE_SINGLE_USER");
});

test.skipIf(!IS_ROOT)(
  "in production services that are not kept apart are refused, and limits that do not hold",
  async () => {
    const start = async (service: ServiceConfig): Promise<RunningSupervisor> =>
      await RunningSupervisor.start(enclaveConfig([service], { mode: "production" }), {
        uidMap: "0 0 4294967295\n",
      });
    const asRoot = { ...WEB_USER, uid: 0 };
    await using open = await start(shellService("web", FOREVER, { user: asRoot }));
    expect(await open.exited).toBe(78);
    expect(open.notices).toContain("fail E_ENCLAVE_ISOLATION service web runs as root");
    await using unlimited = await start(
      shellService("web", FOREVER, { user: WEB_USER, limits: { pids: 5 } }),
    );
    expect(await unlimited.exited).toBe(78);
    expect(unlimited.notices).toContain("fail E_ENCLAVE_LIMITS service web: pids cannot be limited");
  },
);

test("logs do not leave the enclave unless the configuration ships them", async () => {
  const config = enclaveConfig([shellService("web", "echo secret")], { logs: { ship: false } });
  await using enclave = await RunningSupervisor.startReady(config);
  await enclave.untilState("web", "exited");
  for (const query of ["", "?follow=true", "?service=gateway"]) {
    const { status, text } = await enclave.request("GET", `/v1/logs${query}`);
    expect({ status, code: (JSON.parse(text) as { code: string }).code }).toEqual({
      status: 403,
      code: "E_CONTROL_FORBIDDEN",
    });
  }
});
