import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { GATE_LIMITS } from "../../../pf-proxy/egress/egress-gate.ts";
import { openConnection } from "../../../pf-proxy/open-connection.ts";
import { EgressPolicy, type EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import { eventually } from "../../enclave/eventually.ts";
import { listen, portOf } from "../relay-chain.ts";
import { captureHello } from "./client-hellos.ts";
import { type EchoServer, EgressBed, openEcho, ruleTo, talk } from "./egress-bed.ts";

const name = (host: string, port: number): EgressTarget => ({ kind: "name", host, port });
let echo: EchoServer;
let stack: AsyncDisposableStack;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  echo = stack.use(await openEcho());
});
afterEach(() => stack.disposeAsync());

async function openBed(...rest: Parameters<typeof EgressBed.open>): Promise<EgressBed> {
  return stack.use(await EgressBed.open(...rest));
}

describe("a connection that a rule allows", () => {
  test("reaches its destination, bytes and half-closes pass both ways, and both sides count it", async () => {
    const bed = await openBed({ rules: [ruleTo("db.test", 5432, echo.port)] });
    const port = await bed.listen(name("db.test", 5432));
    const bytes = Buffer.alloc(1024 * 1024, "x");
    expect(await talk(port, bytes)).toEqual({ answer: bytes, error: null });
    for (const ledger of [bed.inside, bed.outside]) {
      await eventually("all closed", () => ledger.totals.egress.live === 0);
      expect(ledger.totals.egress).toMatchObject({
        total: 1,
        refused: 0,
        bytesOut: bytes.length,
        bytesIn: bytes.length,
      });
      expect(ledger.report(null, []).rules).toMatchObject([{ total: 1, bytesOut: bytes.length }]);
    }
  });

  test("works where the server speaks first and the client waits for it", async () => {
    const server = createServer((socket) => socket.on("error", () => undefined).end("220 ready\r\n"));
    await listen(server, { port: 0, host: "127.0.0.1" });
    stack.defer(() => void server.close());
    const bed = await openBed({ rules: [ruleTo("mail.test", 25, portOf(server))] });
    const port = await bed.listen(name("mail.test", 25));
    expect(String((await talk(port, "", false)).answer)).toBe("220 ready\r\n");
  });

  test("is reset when the destination resets it", async () => {
    const server = createServer((socket) => void socket.once("data", () => socket.resetAndDestroy()));
    await listen(server, { port: 0, host: "127.0.0.1" });
    stack.defer(() => void server.close());
    const bed = await openBed({ rules: [ruleTo("db.test", 5432, portOf(server))] });
    expect((await talk(await bed.listen(name("db.test", 5432)), "x", false)).error).toBe("ECONNRESET");
  });

  test("is shown while it is open", async () => {
    const bed = await openBed({ rules: [ruleTo("db.test", 5432, echo.port)] });
    const socket = connect(await bed.listen(name("db.test", 5432)), "127.0.0.1");
    socket.write("hello");
    await once(socket, "data");
    for (const ledger of [bed.inside, bed.outside])
      expect(ledger.report(null, []).connections).toMatchObject([
        { direction: "egress", peer: "db.test:5432", state: "open", bytesOut: 5, bytesIn: 5 },
      ]);
    socket.destroy();
  });
});

describe("a connection that no rule allows", () => {
  test("is reset, nobody outside hears of it, and the rule that would allow it is told", async () => {
    const bed = await openBed({ rules: [ruleTo("db.test", 5432, echo.port)] });
    for (const target of [name("other.test", 5432), name("db.test", 5433)])
      expect((await talk(await bed.listen(target), "x")).error).toBe("ECONNRESET");
    expect(bed.inside.report(null, []).denials).toMatchObject([
      { target: "db.test:5433", reason: "no_rule", allow: "{ host: db.test, port: 5433 }" },
      { target: "other.test:5432", reason: "no_rule", allow: "{ host: other.test, port: 5432 }" },
    ]);
    expect(bed.outside.totals.egress.total).toBe(0);
    expect(echo.connections()).toBe(0);
  });

  test("is one log line however often it is tried", async () => {
    const bed = await openBed({ rules: [] });
    const port = await bed.listen(name("other.test", 80));
    for (let count = 0; count < 20; count += 1) await talk(port, "x");
    expect(bed.inside.report(null, []).denials).toMatchObject([{ target: "other.test:80", count: 20 }]);
    expect(bed.lines.filter((line) => line.includes("connection denied"))).toHaveLength(1);
  });
});

describe("tls: required", () => {
  test("lets nothing be dialled before a ClientHello", async () => {
    const bed = await openBed({ rules: [ruleTo("api.test", 443, echo.port)] });
    const port = await bed.listen(name("api.test", 443));
    for (const bytes of [
      "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n",
      "\x16\x03\x01\x00\x00",
      Buffer.alloc(70_000, 0x16),
    ])
      expect((await talk(port, bytes, false)).error).toBe("ECONNRESET");
    expect((await talk(port, "")).error).toBe("ECONNRESET");
    expect(echo.connections()).toBe(0);
    expect(bed.inside.report(null, []).denials.every(({ reason }) => reason.startsWith("inspection"))).toBe(
      true,
    );
  });

  test("gives a silent client up", async () => {
    const bed = await openBed({
      rules: [ruleTo("api.test", 443, echo.port)],
      gateLimits: { proofTimeoutMs: 200 },
    });
    expect((await talk(await bed.listen(name("api.test", 443)), "", false)).error).toBe("ECONNRESET");
    expect(bed.inside.report(null, []).denials).toMatchObject([
      { reason: "inspection: said nothing in time" },
    ]);
    expect(echo.connections()).toBe(0);
  });
});

describe("limits of a rule", () => {
  const limited = async (rest: Parameters<typeof ruleTo>[3], host = rest): Promise<[EgressBed, number]> => {
    const bed = await openBed({
      rules: [ruleTo("db.test", 5432, echo.port, rest)],
      hostRules: [ruleTo("db.test", 5432, echo.port, host)],
    });
    return [bed, await bed.listen(name("db.test", 5432))];
  };

  test.each(["inside", "on the host alone"])("connections at one time, %s", async (where) => {
    const [bed, port] = await limited(where === "inside" ? { connections: 2 } : {}, { connections: 2 });
    const sockets = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
    for (const socket of sockets) {
      socket.write("x");
      await once(socket, "data");
    }
    expect((await talk(port, "x", false)).error).toBe("ECONNRESET");
    for (const socket of sockets) socket.destroy();
    await eventually(
      "all closed",
      () => bed.outside.totals.egress.live + bed.inside.totals.egress.live === 0,
    );
    expect(await talk(port, "x")).toMatchObject({ error: null });
  });

  test.each(["inside", "on the host alone"])("bytes of a connection, %s", async (where) => {
    const [, port] = await limited(where === "inside" ? { maxBytes: 1000 } : {}, { maxBytes: 1000 });
    expect((await talk(port, "x".repeat(400))).error).toBe(null);
    expect((await talk(port, "x".repeat(2000), false)).error).toBe("ECONNRESET");
  });

  test.each([{ idleTimeoutMs: 100 }, { totalTimeoutMs: 100 }])("time: %o", async (limit) => {
    const [bed, port] = await limited(limit);
    expect((await talk(port, "x", false)).error).toBe("ECONNRESET");
    expect(bed.inside.report(null, []).denials).toMatchObject([
      { reason: expect.stringMatching(/^limit: /) },
    ]);
  });

  test("new connections a second", async () => {
    const [bed, port] = await limited({ connectionsPerSecond: 2 });
    const results = await Promise.all(Array.from({ length: 10 }, () => talk(port, "x")));
    const refused = results.filter(({ error }) => error !== null).length;
    expect(refused).toBeGreaterThanOrEqual(6);
    expect(refused).toBeLessThanOrEqual(8);
    expect(bed.inside.report(null, []).denials).toMatchObject([{ count: refused }]);
  });
});

test("peers beyond the limits are reset, and the proxy serves on", async () => {
  const gateLimits = { connections: 60, waiting: 50, proofTimeoutMs: 300 };
  const bed = await openBed({
    rules: [ruleTo("api.test", 443, echo.port), ruleTo("db.test", 5432, echo.port)],
    gateLimits,
  });
  const silent = await bed.listen(name("api.test", 443));
  const errors = await Promise.all(
    Array.from({ length: 200 }, async () => (await talk(silent, "", false)).error),
  );
  expect(new Set(errors)).toEqual(new Set(["ECONNRESET"]));
  expect(await talk(await bed.listen(name("db.test", 5432)), "x")).toEqual({
    answer: Buffer.from("x"),
    error: null,
  });
});

test(
  "10,000 peers that connect and say nothing take no more than their share",
  { timeout: 120_000 },
  async () => {
    const bed = await openBed({
      rules: [ruleTo("api.test", 443, echo.port), ruleTo("db.test", 5432, echo.port)],
    });
    const silent = await bed.listen(name("api.test", 443));
    const sockets: Socket[] = [];
    let resets = 0;
    for (let batch = 0; batch < 40; batch += 1) {
      const opened = Array.from({ length: 250 }, async () => {
        const socket = await openConnection("127.0.0.1", silent, AbortSignal.timeout(30_000));
        socket.on("error", () => (resets += 1)).resume();
        sockets.push(socket);
      });
      await Promise.allSettled(opened);
      expect(bed.inside.totals.egress.live).toBeLessThanOrEqual(GATE_LIMITS.waiting);
    }
    // Those beyond the limit are gone at once; the others have their time.
    await eventually("resets", () => resets >= 10_000 - GATE_LIMITS.waiting - 250);
    for (const socket of sockets) socket.destroy();
    await eventually("all closed", () => bed.inside.totals.egress.live === 0);
    expect(await talk(await bed.listen(name("db.test", 5432)), "x")).toEqual({
      answer: Buffer.from("x"),
      error: null,
    });
  },
);

test("other rules reset what they forbid and leave the rest alone", async () => {
  const keep = ruleTo("keep.test", 5432, echo.port);
  const bed = await openBed({ rules: [keep, ruleTo("gone.test", 5432, echo.port)] });
  const sockets = [];
  for (const host of ["keep.test", "gone.test"]) {
    const port = await bed.listen(name(host, 5432));
    const socket = await openConnection("127.0.0.1", port, AbortSignal.timeout(5_000));
    socket.write("x");
    await once(socket, "data");
    sockets.push(socket);
  }
  const [kept, gone] = sockets;
  const reset = once(gone ?? bedless(), "error");
  bed.gate.setPolicy(new EgressPolicy([keep]));
  expect((await reset)[0]).toMatchObject({ code: "ECONNRESET" });
  kept?.write("y");
  expect(String((await once(kept ?? bedless(), "data"))[0])).toBe("y");
  kept?.destroy();
});

function bedless(): never {
  throw new TypeError("no socket");
}

test("a ClientHello and the end of input in one packet pass both", async () => {
  const bed = await openBed({ rules: [ruleTo("api.test", 443, echo.port)] });
  const hello = await captureHello("api.test");
  const port = await bed.listen(name("api.test", 443));
  for (let round = 0; round < 20; round += 1)
    expect(await talk(port, hello)).toEqual({ answer: hello, error: null });
});
