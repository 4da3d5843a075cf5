import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { KitError } from "../../../core/errors.ts";
import { openEgressStream } from "../../../pf-proxy/egress/egress-dialer.ts";
import type { EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import {
  EGRESS_ANSWER_BYTES,
  EGRESS_HEAD_BYTES,
  EGRESS_STATUS,
  encodeEgressAnswer,
} from "../../../wire/egress-preface.ts";
import { listen } from "../relay-chain.ts";
import { openUnix } from "./egress-bed.ts";

const TARGET: EgressTarget = { kind: "name", host: "db.test", port: 5432 };
let directory: string;
let server: Server;
let open: Set<Socket>;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "hostile-"));
  open = new Set();
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  await rm(directory, { recursive: true });
});

/** A host that answers a preface with what `answer` makes of its token. */
async function openHost(answer: (token: Buffer, socket: Socket) => void): Promise<void> {
  server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => undefined);
    socket.once("data", (bytes: Buffer) => answer(bytes.subarray(6, EGRESS_HEAD_BYTES - 1), socket));
  });
  await listen(server, { path: join(directory, "s") });
}

async function attempt(timeoutMs = 5_000): Promise<unknown> {
  const dial = async (signal: AbortSignal): Promise<Socket> => await openUnix(join(directory, "s"), signal);
  return await openEgressStream(TARGET, dial, AbortSignal.timeout(timeoutMs)).then(
    () => "connected",
    (error: unknown) => (error instanceof KitError ? error.code : error),
  );
}

describe("a host that", () => {
  test("answers another stream is refused", async () => {
    await openHost((token, socket) => {
      const other = Buffer.from(token.map((byte) => byte ^ 1));
      socket.write(encodeEgressAnswer("connected", other));
    });
    expect(await attempt()).toBe("E_EGRESS_PREFACE");
  });

  test.each(Object.keys(EGRESS_STATUS).filter((status) => status !== "connected"))(
    "says %s is believed",
    async (status) => {
      const known = Object.keys(EGRESS_STATUS).find(
        (one): one is keyof typeof EGRESS_STATUS => one === status,
      );
      await openHost((token, socket) => socket.end(encodeEgressAnswer(known ?? "connected", token)));
      expect(await attempt()).toBe("E_EGRESS_REFUSED");
    },
  );

  test.each([
    ["garbage", Buffer.from("HTTP/1.1 200 OK\r\n\r\n")],
    ["zeros", Buffer.alloc(64)],
    ["an unknown status", Buffer.from([0x45, 0x4f, 1, 99, 0, 0, 0, 0, 0, 0, 0, 0])],
    ["another version", Buffer.from([0x45, 0x4f, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
  ])("answers %s is refused", async (_what, bytes) => {
    await openHost((_token, socket) => socket.write(bytes));
    expect(await attempt()).toBe("E_EGRESS_PREFACE");
  });

  test.each(Array.from({ length: EGRESS_ANSWER_BYTES }, (_item, count) => count))(
    "closes after %i bytes of its answer is refused",
    async (count) => {
      await openHost((token, socket) =>
        socket.end(encodeEgressAnswer("connected", token).subarray(0, count)),
      );
      expect(await attempt()).toBe("E_EGRESS_PREFACE");
    },
  );

  test("stalls is given up at the deadline", async () => {
    await openHost(() => undefined);
    expect(await attempt(100)).toMatchObject({ name: "TimeoutError" });
  });
});
