import { createServer as createHttpServer } from "node:http";
import { createServer, type Server } from "node:net";
import { expect, test } from "vitest";

import { monitorHealth } from "../../enclave/health-monitor.ts";
import { probeHealth, type ProbeResult } from "../../enclave/health-probe.ts";
import type { Healthcheck, HealthTest } from "../../wire/enclave-config.ts";
import { listen, portOf } from "../pf-proxy/relay-chain.ts";
import { eventually } from "./eventually.ts";
import { ManualClock } from "./manual-clock.ts";
import { SERVICE_EXEC } from "./running-supervisor.ts";
import { shellService } from "./service-configs.ts";

function probe(
  test: HealthTest,
  timeoutMs = 5_000,
  signal = new AbortController().signal,
): Promise<ProbeResult> {
  const service = shellService("web", "true", { environment: { PATH: "/usr/bin:/bin", COLOUR: "red" } });
  const context = { service, serviceExec: SERVICE_EXEC, setIdentity: false, options: [] };
  return probeHealth({ test, timeoutMs }, context, signal);
}

function sh(script: string): HealthTest {
  return { kind: "exec", command: ["sh", "-c", script] };
}

async function withServer<T>(server: Server, use: (port: number) => Promise<T>): Promise<T> {
  await listen(server, { port: 0, host: "127.0.0.1" });
  try {
    return await use(portOf(server));
  } finally {
    server.close();
  }
}

test("exec: status 0 is healthy, with the service's environment", async () => {
  expect(await probe(sh("test $COLOUR = red && echo fine"))).toEqual({
    healthy: true,
    detail: "exited(0): fine",
  });
  expect(await probe(sh("echo broken >&2; exit 3"))).toEqual({ healthy: false, detail: "exited(3): broken" });
});

test("exec: a program that does not exist is a failure with its reason", async () => {
  const result = await probe({ kind: "exec", command: ["no-such-program"] });
  expect(result).toMatchObject({
    healthy: false,
    detail: expect.stringMatching(/^not executed: ENOENT/) as unknown,
  });
});

test("exec: keeps at most 256 characters of what is printed", async () => {
  const { detail } = await probe(sh("yes | head -c 1000000; exit 1"));
  expect(detail).toHaveLength(256);
});

test("exec: the whole group is killed at the timeout", async () => {
  const result = await probe(sh("sleep 1000 & sleep 1000"), 50);
  expect(result).toEqual({ healthy: false, detail: "no answer within 50 ms" });
});

test("http: statuses 200 to 399 are healthy, redirects are not followed", async () => {
  const server = createHttpServer((request, response) => {
    response.writeHead(Number(request.url?.slice(1)), { location: "/500" }).end("x".repeat(100_000));
  });
  await withServer(server, async (port) => {
    const verdicts: (readonly [number, boolean])[] = [];
    for (const status of [200, 204, 302, 399, 400, 404, 500]) {
      const result = await probe({ kind: "http", port, path: `/${status}` });
      verdicts.push([status, result.healthy]);
      expect(result.detail).toBe(`HTTP status ${status}`);
    }
    expect(verdicts.filter(([, healthy]) => healthy).map(([status]) => status)).toEqual([200, 204, 302, 399]);
  });
});

test("http: a server that never answers is a failure at the timeout", async () => {
  const server = createServer((socket) => socket.on("error", () => undefined));
  await withServer(server, async (port) => {
    expect(await probe({ kind: "http", port, path: "/" }, 50)).toEqual({
      healthy: false,
      detail: "no answer within 50 ms",
    });
  });
});

test("http and tcp: nothing listens, so both are failures with the errno", async () => {
  const port = await withServer(createServer(), (free) => Promise.resolve(free));
  for (const test of [
    { kind: "http", port, path: "/" },
    { kind: "tcp", port },
  ] as const) {
    const result = await probe(test);
    expect(result.healthy).toBe(false);
    expect(result.detail).toContain("ECONNREFUSED");
  }
});

test("tcp: an open connection is healthy", async () => {
  await withServer(
    createServer((socket) => socket.on("error", () => undefined)),
    async (port) => {
      expect(await probe({ kind: "tcp", port })).toEqual({ healthy: true, detail: "connected" });
    },
  );
});

test("tcp: a service that greets first is not reset", async () => {
  const ends: string[] = [];
  const server = createServer((socket) => {
    socket.on("error", (error) => ends.push(error.message)).on("close", () => ends.push("closed"));
    socket.write("hello".repeat(1000));
    setImmediate(() => socket.end("and good bye"));
  });
  await withServer(server, async (port) => {
    for (let round = 1; round <= 20; round += 1) {
      expect((await probe({ kind: "tcp", port })).healthy).toBe(true);
      await eventually("the end", () => ends.length === round);
    }
  });
  expect(new Set(ends)).toEqual(new Set(["closed"]));
});

const CHECK: Healthcheck = {
  test: { kind: "tcp", port: 1 },
  intervalMs: 1_000,
  timeoutMs: 500,
  retries: 3,
  startPeriodMs: 0,
};

/** Runs a monitor on a manual clock; `verdict` tells each probe's result. */
class Monitored implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly changes: string[] = [];
  verdict = false;
  probes = 0;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(check: Healthcheck) {
    const probe = (): Promise<ProbeResult> => {
      this.probes += 1;
      return Promise.resolve({ healthy: this.verdict, detail: "detail" });
    };
    const onChange = (health: string): void => {
      if (this.changes.at(-1) !== health) this.changes.push(health);
    };
    this.#done = monitorHealth({ check, clock: this.clock, probe, onChange }, this.#stop.signal);
  }

  /** Lets time pass timer by timer until `durationMs` went by. */
  async pass(durationMs: number): Promise<void> {
    for (let leftMs = durationMs; leftMs > 0;) {
      await eventually("the next timer", () => this.clock.delaysMs.length === 1);
      const stepMs = Math.min(leftMs, this.clock.delaysMs[0] ?? leftMs);
      this.clock.advance(stepMs);
      leftMs -= stepMs;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#done;
    expect(this.clock.delaysMs).toEqual([]);
  }
}

test("probes quickly while starting, so that a service is seen healthy soon", async () => {
  await using monitored = new Monitored(CHECK);
  await monitored.pass(100);
  expect(monitored.probes).toBe(3);
  monitored.verdict = true;
  await monitored.pass(100);
  expect(monitored.changes.at(-1)).toBe("healthy");
});

test("becomes unhealthy no earlier than with one probe an interval", async () => {
  await using monitored = new Monitored(CHECK);
  await monitored.pass(2_900);
  expect(monitored.changes).toEqual(["starting"]);
  expect(monitored.probes).toBeGreaterThan(8);
  await monitored.pass(1_500);
  expect(monitored.changes).toEqual(["starting", "unhealthy"]);
});

test("failures within the start period do not count", async () => {
  await using monitored = new Monitored({ ...CHECK, startPeriodMs: 60_000 });
  await monitored.pass(60_000);
  expect(monitored.changes).toEqual(["starting"]);
  await monitored.pass(5_000);
  expect(monitored.changes).toEqual(["starting", "unhealthy"]);
});

test("a healthy service needs as many failures in a row as retries, and one success heals it", async () => {
  await using monitored = new Monitored({ ...CHECK, startPeriodMs: 60_000 });
  monitored.verdict = true;
  await monitored.pass(1_000);
  monitored.verdict = false;
  await monitored.pass(2_000);
  monitored.verdict = true;
  await monitored.pass(1_000);
  monitored.verdict = false;
  await monitored.pass(2_000);
  expect(monitored.changes).toEqual(["healthy"]);
  await monitored.pass(1_000);
  expect(monitored.changes).toEqual(["healthy", "unhealthy"]);
  monitored.verdict = true;
  await monitored.pass(1_000);
  expect(monitored.changes).toEqual(["healthy", "unhealthy", "healthy"]);
});
