/** The socket of streams, by somebody who has its path: what a token opens, and that nothing else opens anything. */
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";

import { EventStore } from "../../enclave/event-store.ts";
import { Sessions } from "../../enclave/sessions/sessions.ts";
import type { ExecRequest } from "../../wire/control.ts";
import { MAX_SESSIONS, type SessionTicket, STREAM_ACCEPTED } from "../../wire/session-frames.ts";
import { eventually } from "./eventually.ts";
import { isKitError } from "./kit-error.ts";
import { ManualClock } from "./manual-clock.ts";
import { SERVICE_EXEC } from "./running-supervisor.ts";
import { shellService } from "./service-configs.ts";

const SIZE = { rows: 24, columns: 80 };
const USER = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const SERVICE = shellService("web", "true", {
  user: { name: "somebody", uid: 4711, gid: 4712, groups: [7], home: "/home" },
  workingDir: "/tmp",
});

let stack: AsyncDisposableStack;
let clock: ManualClock;
let sessions: Sessions;
let path: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "streams-"));
  stack.defer(() => rm(directory, { recursive: true }));
  clock = new ManualClock();
  path = join(directory, "s");
  sessions = await Sessions.open({
    streamSocket: path,
    streamOwner: USER,
    serviceExec: SERVICE_EXEC,
    setIdentity: process.getuid?.() === 0,
    capabilities: [],
    archiveProgram: ["/bin/false"],
    accounts: { passwd: "/etc/passwd", group: "/etc/group" },
    clock,
    events: new EventStore({ generation: 1, epochMs: () => clock.epochMs() }),
    findService: (name) => (name === SERVICE.name ? SERVICE : undefined),
    optionsOf: () => ["--rlimit", "core=0:0"],
  });
  stack.use(sessions);
});
afterEach(() => stack.disposeAsync());

function dial(): Socket {
  const socket = connect({ path, allowHalfOpen: true });
  socket.on("error", () => undefined);
  stack.defer(() => void socket.destroy());
  return socket;
}

/** The stream if it was taken, else undefined. */
async function offer(hello: string): Promise<Socket | undefined> {
  const socket = dial();
  socket.write(hello);
  const { promise, resolve } = Promise.withResolvers<Socket | undefined>();
  socket.once("readable", () => {
    const answer: unknown = socket.read(1);
    resolve(answer instanceof Uint8Array && answer[0] === STREAM_ACCEPTED ? socket : undefined);
  });
  socket.once("close", () => resolve(undefined));
  return await promise;
}

async function offerAll({ token, streams }: SessionTicket): Promise<Socket[]> {
  const opened: Socket[] = [];
  for (const descriptor of streams) {
    const stream = await offer(`${token}${descriptor}`);
    if (stream === undefined) throw new Error(`stream ${descriptor} was refused`);
    opened.push(stream);
  }
  return opened;
}

async function create(request: Partial<ExecRequest> = {}): Promise<SessionTicket> {
  return await sessions.createExec({ command: ["true"], ...request });
}

test("a descriptor is taken once, and only one that the session wants", async () => {
  const { token } = await create({ tty: true });
  expect(await offer(`${token}1`)).toBeUndefined();
  expect(await offer(`${token}3`)).toBeUndefined();
  expect(await offer(`${token.toUpperCase()}0`)).toBeUndefined();
  expect(await offer(`${token}0 and more`)).toBeUndefined();
  expect(await offer(`${token}0`)).toBeDefined();
  expect(await offer(`${token}0`)).toBeUndefined();
});

test("a token opens nothing once its command was started, or its session is forgotten", async () => {
  const ticket = await create({ command: ["sleep", "1000"] });
  await offerAll(ticket);
  sessions.start(ticket.id, SIZE);
  expect(await offer(`${ticket.token}0`)).toBeUndefined();
  const other = await create();
  const [stdin] = await offerAll(other);
  clock.advance(10_000);
  await buffer(stdin ?? dial());
  expect(await offer(`${other.token}0`)).toBeUndefined();
  expect(() => sessions.start(other.id, SIZE)).toThrow(isKitError("E_EXEC_UNKNOWN"));
  expect((await sessions.wait(ticket.id, 0, AbortSignal.abort())).state).toBe("running");
});

test("nothing is started before all its streams are there, and nothing twice", async () => {
  const ticket = await create();
  const [first = 0, ...rest] = ticket.streams;
  expect(await offer(`${ticket.token}${first}`)).toBeDefined();
  expect(() => sessions.start(ticket.id, SIZE)).toThrow(isKitError("E_EXEC_STATE", /streams/));
  await offerAll({ ...ticket, streams: rest });
  expect(sessions.start(ticket.id, SIZE).state).toBe("running");
  expect(() => sessions.start(ticket.id, SIZE)).toThrow(isKitError("E_EXEC_STATE", /before/));
});

test("two hundred connections that say nothing close in time and leave the socket as it was", async () => {
  const flood = Array.from({ length: 200 }, dial);
  await Promise.all(flood.map(async (socket) => await buffer(socket).catch(() => undefined)));
  const ticket = await create({ command: ["echo", "served"] });
  const [, stdout] = await offerAll(ticket);
  sessions.start(ticket.id, SIZE);
  expect(await text(stdout ?? dial())).toBe("served\n");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("a hello may come in pieces, and one that does not come whole is not waited for", async () => {
  const { token } = await create();
  const socket = dial();
  for (const piece of [token.slice(0, 5), token.slice(5), "0"]) {
    socket.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await once(socket, "readable");
  expect(socket.read(1)).toEqual(Buffer.of(STREAM_ACCEPTED));
  const half = dial();
  half.write(token.slice(0, 20));
  expect((await buffer(half)).length).toBe(0);
});

test("so many sessions are live at one time; those that ended make room, and old ones are forgotten", async () => {
  const first = await create();
  for (let index = 1; index < MAX_SESSIONS; index += 1) await create();
  await expect(create()).rejects.toEqual(isKitError("E_CONTROL_BUSY"));
  expect(() => sessions.createArchive({ direction: "pack", path: "/" })).toThrow(
    isKitError("E_CONTROL_BUSY"),
  );
  await offerAll(first);
  sessions.start(first.id, SIZE);
  await eventually("its end", async () => {
    return (await sessions.wait(first.id, 0, AbortSignal.abort())).state === "ended";
  });
  const next = await create();
  expect(next.id).toBeGreaterThan(first.id);
  clock.advance(60_000);
  await expect(sessions.wait(first.id, 0, AbortSignal.abort())).rejects.toEqual(isKitError("E_EXEC_UNKNOWN"));
});

test.skipIf(process.getuid?.() !== 0)(
  "a command in a service is what the service is, unless it asks to be somebody else",
  async () => {
    const print = async (request: Partial<ExecRequest>): Promise<string> => {
      const script = "id -u; id -g; id -G; pwd; ulimit -c; echo $HOME $USER $MINE";
      const ticket = await create({ command: ["/bin/sh", "-c", script], ...request });
      const [, stdout] = await offerAll(ticket);
      sessions.start(ticket.id, SIZE);
      return await text(stdout ?? dial());
    };
    expect(await print({ service: "web", environment: { MINE: "yes" } })).toBe(
      "4711\n4712\n4712 7\n/tmp\n0\n/home somebody yes\n",
    );
    expect(await print({ service: "web", user: "99:98", workingDir: "/" })).toBe(
      "99\n98\n98\n/\n0\n/home somebody\n",
    );
    expect(await print({ user: "0", environment: { HOME: "/x" } })).toMatch(/^0\n0\n[^]*\/x root\n$/);
    for (const user of ["nobody-here", "0:nobody", "-1", "4294967295", "1:2:3", ":", ""]) {
      await expect(create({ user })).rejects.toEqual(isKitError("E_EXEC_USER"));
    }
  },
);
