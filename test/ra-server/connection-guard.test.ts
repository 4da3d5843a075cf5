import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";

import { ConnectionGuard, type GuardLimits, type Phase } from "../../ra-server/connection-guard.ts";
import { eventually } from "../enclave/eventually.ts";
import { portOf } from "./port-of.ts";

const LONG_MS = 60_000;
const LIMITS: GuardLimits = { connections: 3, handshakeMs: LONG_MS, requestMs: LONG_MS, answerMs: LONG_MS };
const opened: { close(): unknown }[] = [];

afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

interface Guarded {
  readonly guard: ConnectionGuard;
  readonly cuts: (Phase | "place")[];
  /** Both ends of a new connection. */
  readonly open: () => Promise<{ readonly client: Socket; readonly server: Socket }>;
}

async function guarded(limits: Partial<GuardLimits> = {}): Promise<Guarded> {
  const cuts: (Phase | "place")[] = [];
  const guard = new ConnectionGuard({ ...LIMITS, ...limits }, (phase) => cuts.push(phase));
  const accepted: Socket[] = [];
  const server = createServer((socket) => {
    accepted.push(socket.on("error", () => undefined));
    guard.admit(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.push(server, { close: () => guard[Symbol.dispose]() });
  return {
    guard,
    cuts,
    open: async () => {
      const client = connect(portOf(server), "127.0.0.1").on("error", () => undefined);
      const count = accepted.length;
      await once(client, "connect");
      const socket = await eventually("it is accepted", () => accepted[count]);
      return { client, server: socket };
    },
  };
}

async function isEnded({ client }: { readonly client: Socket }): Promise<boolean> {
  if (!client.closed) await once(client.resume(), "close");
  return true;
}

test.each<[Phase, keyof GuardLimits]>([
  ["handshake", "handshakeMs"],
  ["request", "requestMs"],
  ["answer", "answerMs"],
])("a connection that stays in its %s is cut, though its bytes drip", async (phase, limit) => {
  const { guard, cuts, open } = await guarded({ [limit]: 200 });
  const connection = await open();
  guard.enter(connection.server, phase);
  const drip = setInterval(() => connection.client.write("x"), 20);
  opened.push({ close: () => clearInterval(drip) });
  expect(await isEnded(connection)).toBe(true);
  expect(cuts).toEqual([phase]);
  await eventually("its place is free", () => guard.size === 0);
});

test("a full house lets a new connection in for the handshake that waits longest", async () => {
  const { guard, cuts, open } = await guarded();
  const secured = await open();
  guard.enter(secured.server, "request");
  const waiting = [await open(), await open()] as const;
  await open();
  expect(await isEnded(waiting[0])).toBe(true);
  expect([secured.server.destroyed, waiting[1].server.destroyed]).toEqual([false, false]);
  expect(cuts).toEqual(["place"]);
  expect(guard.size).toBe(3);
});

test("without handshakes the connection that is idle longest gives way", async () => {
  const { guard, open } = await guarded();
  const idle = [await open(), await open(), await open()] as const;
  for (const { server } of idle) guard.enter(server, "request");
  guard.enter(idle[0].server, "answer");
  guard.enter(idle[0].server, "request");
  await open();
  expect(await isEnded(idle[1])).toBe(true);
  expect([idle[0].server.destroyed, idle[2].server.destroyed]).toEqual([false, false]);
});

test("who is being answered keeps its place, and the new one is refused", async () => {
  const { guard, cuts, open } = await guarded({ connections: 1 });
  const busy = await open();
  guard.enter(busy.server, "answer");
  expect(await isEnded(await open())).toBe(true);
  expect(busy.server.destroyed).toBe(false);
  expect(cuts).toEqual(["place"]);
});

test("at the end answers may end, and what only waits is cut at once", async () => {
  const { guard, open } = await guarded();
  const [idle, busy] = [await open(), await open()];
  guard.enter(idle.server, "request");
  guard.enter(busy.server, "answer");
  const drained = guard.drain(LONG_MS);
  expect(await isEnded(idle)).toBe(true);
  expect(busy.server.destroyed).toBe(false);
  busy.server.end();
  busy.client.end();
  await drained;
  expect(guard.size).toBe(0);
});
