/** Kill and restart of the host's side under load, and whether anything stays behind after very many connections. */
import { readdir } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { openConnection } from "../../../pf-proxy/open-connection.ts";
import type { EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import { eventually } from "../../enclave/eventually.ts";
import { type EchoServer, EgressBed, openEcho, ruleTo, talk } from "./egress-bed.ts";

const TARGET: EgressTarget = { kind: "name", host: "db.test", port: 5432 };
let echo: EchoServer;
let bed: EgressBed;
let port: number;
let stack: AsyncDisposableStack;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  echo = stack.use(await openEcho());
  bed = stack.use(await EgressBed.open({ rules: [ruleTo("db.test", 5432, echo.port)] }));
  port = await bed.listen(TARGET);
});
afterEach(() => stack.disposeAsync());

describe("a host's side that dies and comes back under load", () => {
  test("ends what was open as a reset, hangs nothing, and serves what comes afterwards", async () => {
    for (let round = 0; round < 5; round += 1) {
      const open = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const socket = await openConnection("127.0.0.1", port, AbortSignal.timeout(5_000));
          socket.write("x");
          await new Promise((resolve) => socket.once("data", resolve));
          return socket;
        }),
      );
      const ends = open.map(
        (socket) =>
          new Promise((resolve) =>
            socket
              .once("error", (error: NodeJS.ErrnoException) => resolve(error.code))
              .once("end", () => resolve("end")),
          ),
      );
      const flying = Array.from({ length: 20 }, () => talk(port, "y".repeat(100_000)));
      await bed.stopHost();
      expect(new Set(await Promise.all(ends))).toEqual(new Set(["ECONNRESET"]));
      for (const { answer, error } of await Promise.all(flying))
        expect(error === "ECONNRESET" || (error === null && answer.length === 100_000)).toBe(true);
      expect((await talk(port, "z")).error).toBe("ECONNRESET");
      await bed.startHost();
      expect(await talk(port, "z")).toEqual({ answer: Buffer.from("z"), error: null });
    }
    await eventually(
      "nothing is open",
      () => bed.inside.totals.egress.live + bed.outside.totals.egress.live === 0,
    );
  });
});

const CONNECTIONS = 100_000;
const AT_ONCE = 64;

test(
  `${CONNECTIONS} connections leave no descriptor, no entry and no memory behind`,
  { timeout: 300_000 },
  async () => {
    const descriptors = async (): Promise<number> => (await readdir("/proc/self/fd")).length;
    const work = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += AT_ONCE) {
        const answers = await Promise.all(Array.from({ length: AT_ONCE }, () => talk(port, "x")));
        expect(answers.every(({ answer, error }) => error === null && answer.length === 1)).toBe(true);
      }
    };
    await work(5_000);
    setFlagsFromString("--expose-gc");
    const collect: unknown = runInNewContext("gc");
    const heapBytes = (): number => {
      if (typeof collect === "function") collect();
      return process.memoryUsage().heapUsed;
    };
    const before = { descriptors: await descriptors(), heapBytes: heapBytes() };
    await work(CONNECTIONS);
    await eventually(
      "nothing is open",
      () => bed.inside.totals.egress.live + bed.outside.totals.egress.live === 0,
    );
    // Other tests run in this process too, so the bounds are far from exact and far below a leak of each connection.
    expect((await descriptors()) - before.descriptors).toBeLessThan(2_000);
    expect(heapBytes() - before.heapBytes).toBeLessThan(300 * 1024 * 1024);
    expect(bed.inside.totals.egress.total).toBeGreaterThanOrEqual(CONNECTIONS);
  },
);
