/** The gateway when others fail it, or it fails: clients that are late, a supervisor that is gone, a gateway that hangs. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";

import { ExecFrameDecoder } from "../../control/exec-frames.ts";
import { EventStore } from "../../enclave/event-store.ts";
import { OwnProcess } from "../../enclave/own-process.ts";
import { LogStore } from "../../enclave/log-store.ts";
import type { EnclaveStats, EventEntry, LogEntry } from "../../wire/control.ts";
import { ROOT } from "../structure/source-files.ts";
import { eventually } from "./eventually.ts";
import { ManualClock } from "./manual-clock.ts";
import { open, parseAnswer, RawSession, sh, untilGone } from "./raw-session.ts";
import { ndjson, RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

async function start(script = "exec sleep 1000"): Promise<RunningSupervisor> {
  const enclave = await RunningSupervisor.startReady(enclaveConfig([shellService("web", script)]));
  onTestFinished(() => enclave[Symbol.asyncDispose]());
  await enclave.untilState("web", "running");
  return enclave;
}

test("a gateway that was stopped in its tracks is killed and replaced", async () => {
  const enclave = await start();
  const { gateway } = await enclave.status();
  process.kill(gateway.pid ?? 0, "SIGSTOP");
  await untilGone(gateway.pid ?? 0);
  const next = await eventually("another gateway", async () => {
    const status = await enclave.status().catch(() => undefined);
    return status?.gateway.pid === gateway.pid ? undefined : status;
  });
  expect(next.gateway.restarts).toBe(1);
  const { text: events } = await enclave.request("GET", "/v1/events?follow=false");
  expect(events).toContain("gateway killed: it hangs");
}, 40_000);

test("a gateway that never says a word is killed as well, after a minute", async () => {
  const clock = new ManualClock();
  const epochMs = (): number => clock.epochMs();
  const events = new EventStore({ generation: 1, epochMs });
  const logs = new LogStore({ generation: 1, epochMs });
  const command = ["/bin/sleep", "1000"];
  const gateway = new OwnProcess({
    name: "gateway",
    command,
    descriptors: [],
    clock,
    events,
    logs,
    random: () => 0,
    serve: () => undefined,
  });
  gateway.start();
  const pid = gateway.status().pid ?? 0;
  for (let elapsedMs = 0; elapsedMs < 57_000; elapsedMs += 3_000) clock.advance(3_000);
  await nextTurn();
  expect(gateway.status().pid).toBe(pid);
  clock.advance(3_000);
  await untilGone(pid);
  await gateway.stop(0);
});

test("a gateway whose supervisor is gone ends, whatever its clients do", async () => {
  const enclave = await start();
  const { gateway } = await enclave.status();
  const inside = connect(join(enclave.directory, "control", "control.sock"));
  const idle: Socket[] = [inside, open(enclave), connect(enclave.socketPath(8444))];
  for (const socket of idle) socket.on("error", () => undefined);
  inside.write("GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n");
  await once(inside, "data");
  const session = await RawSession.start(enclave, sh("echo $$; exec sleep 1000"));
  const pid = await session.pid();
  enclave.process.kill("SIGKILL");
  await untilGone(gateway.pid ?? 0);
  for (const socket of [...idle, session.socket]) socket.destroy();
  process.kill(pid, "SIGKILL"); // in an enclave init ends what a supervisor left
  await eventually("the service's end", async () => {
    const found = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
    return found === undefined || / Z /.test(found);
  });
});

test("commands are hung up on when the enclave stops", async () => {
  const enclave = await start();
  const session = await RawSession.start(enclave, sh("trap '' HUP; echo $$; while :; do sleep 0.1; done"));
  const pid = await session.pid();
  await enclave.request("POST", "/v1/poweroff");
  expect(await enclave.exited).toBe(0);
  await untilGone(pid);
  session.socket.destroy();
});

test("bodies that do not come are waited for only so long", async () => {
  const enclave = await start();
  const late = [
    "POST /v1/exec HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    "POST /v1/exec/1/start HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: enclave-stream\r\ncontent-length: 100\r\n\r\n{",
  ].map((head) => {
    const socket = open(enclave);
    socket.resume().write(head);
    return once(socket, "end").finally(() => socket.destroy());
  });
  await Promise.all(late);
  expect((await enclave.status()).gateway.restarts).toBe(0);
});

describe("what it tells", () => {
  test("is the same inside as outside, and described as documented", async () => {
    const enclave = await start();
    const ask = async (path: string, route: string): Promise<unknown> => {
      const socket = connect(path);
      socket.write(`GET ${route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
      return parseAnswer(await text(socket)).body;
    };
    const inside = join(enclave.directory, "control", "control.sock");
    const outside = enclave.socketPath(9001);
    for (const route of [
      "/v1/status",
      "/v1/services",
      "/v1/services/web",
      "/v1/services/nobody",
      "/v1/nothing",
    ]) {
      expect(await ask(inside, route)).toEqual(await ask(outside, route));
    }
    const documented: unknown = JSON.parse(await readFile(join(ROOT, "docs", "openapi.json"), "utf8"));
    const served = await enclave.request("GET", "/v1/openapi.json");
    expect(JSON.parse(served.text)).toEqual(documented);
  });

  test("are samples, one or one after the other, until the client goes", async () => {
    const enclave = await start("yes | head -n 1000; exec sleep 1000");
    await eventually("its output", async () => (await enclave.lines()).length === 1000);
    const once = JSON.parse((await enclave.request("GET", "/v1/stats")).text) as EnclaveStats;
    expect(once.services).toMatchObject([{ name: "web", outputBytes: 2000 }]);
    const samples: EnclaveStats[] = [];
    const response = await enclave.open("GET", "/v1/stats?intervalMs=100");
    response.on("error", () => undefined);
    for await (const sample of ndjson<EnclaveStats>(response)) {
      samples.push(sample);
      if (samples.length === 3) break;
    }
    response.destroy();
    const times = samples.map(({ time }) => time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    for (const interval of ["99", "60001", "x"]) {
      expect((await enclave.request("GET", `/v1/stats?intervalMs=${interval}`)).status).toBe(400);
    }
  });

  test("are lines since a moment, and events that end when nobody follows", async () => {
    const enclave = await start("echo one; sleep 0.05; echo two; exec sleep 1000");
    await eventually("both lines", async () => (await enclave.lines()).length === 2);
    const { text: lines } = await enclave.request("GET", "/v1/logs");
    const [one, two] = lines
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as LogEntry);
    expect((two?.time ?? 0) - (one?.time ?? 0)).toBeGreaterThan(0);
    expect(await enclave.lines(`?since=${two?.time}`)).toEqual(["two"]);
    expect(await enclave.lines(`?since=${(two?.time ?? 0) + 1}`)).toEqual([]);
    const { text: events } = await enclave.request("GET", "/v1/events?follow=false");
    const last = JSON.parse(events.trim().split("\n").at(-1) ?? "") as EventEntry;
    expect(last).toMatchObject({ service: "web", message: "running" });
    expect((await enclave.request("GET", `/v1/events?follow=false&after=${last.seq}`)).text).toBe("");
  });

  test("is what a service prints from now on, to whom attaches", async () => {
    const enclave = await start(
      "echo before; read line < /dev/null; sleep 0.5; while :; do echo out; echo err >&2; sleep 0.05; done",
    );
    await eventually("the first line", async () => (await enclave.lines()).length > 0);
    const socket = open(enclave);
    socket.write(
      "POST /v1/services/web/attach HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: enclave-stream\r\n\r\n",
    );
    const seen = { stdout: "", stderr: "" };
    const decoder = new ExecFrameDecoder();
    let head: Buffer = Buffer.alloc(0);
    let isStream = false;
    socket.on("data", (chunk: Buffer) => {
      head = isStream ? chunk : Buffer.concat([head, chunk]);
      const end = isStream ? -4 : head.indexOf("\r\n\r\n");
      if (!isStream && end === -1) return;
      isStream = true;
      for (const { stream, bytes } of decoder.push(head.subarray(end + 4)))
        seen[stream] += Buffer.from(bytes).toString();
    });
    await eventually(
      "both streams",
      () => seen.stdout.includes("out\nout\n") && seen.stderr.includes("err\nerr\n"),
    );
    expect(seen.stdout).not.toContain("before");
    socket.end();
    await once(socket, "end");
    socket.destroy();
  });
});
