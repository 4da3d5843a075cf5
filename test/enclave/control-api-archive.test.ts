/** Copies through the control API, by the client that the tools use and by ones that break off. */
import { once } from "node:events";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";

import { packArchive } from "../../archive/pack-archive.ts";
import { unpackArchive } from "../../archive/unpack-archive.ts";
import { ControlClient } from "../../control/control-client.ts";
import { MAX_SESSIONS } from "../../wire/session-frames.ts";
import { packToBytes } from "../archive/archive-bed.ts";
import { eventually } from "./eventually.ts";
import { create, open, parseAnswer } from "./raw-session.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const MIB = 1024 ** 2;
const running: { enclave?: RunningSupervisor } = {};
let directory: string;

function enclave(): RunningSupervisor {
  if (running.enclave === undefined) throw new Error("not started");
  return running.enclave;
}

function client(): ControlClient {
  return new ControlClient(async (signal) => {
    const socket = connect({ path: enclave().socketPath(9001), allowHalfOpen: true });
    await once(socket, "connect", { signal });
    return socket;
  });
}

function deadline(): AbortSignal {
  return AbortSignal.timeout(30_000);
}

beforeAll(async () => {
  running.enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("web", "exec sleep 1000")]),
  );
});
afterAll(async () => {
  await running.enclave?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "copies-"));
  for (const name of ["from", "into"]) await mkdir(join(directory, name));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function makeTree(): Promise<string> {
  const tree = join(directory, "from", "tree");
  await mkdir(join(tree, "deep", "er"), { recursive: true });
  await writeFile(join(tree, "large"), Buffer.alloc(3 * MIB, "abc"));
  await writeFile(join(tree, "deep", "er", "small"), "small\n");
  await chmod(join(tree, "deep", "er", "small"), 0o755);
  await symlink("../large", join(tree, "deep", "link"));
  return tree;
}

async function assertSameTree(tree: string): Promise<void> {
  expect(await readFile(join(tree, "large"))).toEqual(Buffer.alloc(3 * MIB, "abc"));
  expect(await readFile(join(tree, "deep", "er", "small"), "utf8")).toBe("small\n");
  expect((await stat(join(tree, "deep", "er", "small"))).mode & 0o777).toBe(0o755);
  expect(await readlink(join(tree, "deep", "link"))).toBe("../large");
}

async function put(path: string, send: (output: Writable) => Promise<void>): Promise<unknown> {
  return await client().putArchive(path, send, deadline());
}

function sendBytes(bytes: Uint8Array): (output: Writable) => Promise<void> {
  return async (output) => {
    if (!output.write(bytes)) await once(output, "drain");
  };
}

/** Every session that a copy had is over. */
async function expectFreeSessions(): Promise<void> {
  await eventually("no copy in progress", async () => {
    const { text: events } = await enclave().request("GET", "/v1/events?follow=false");
    const count = (word: string): number =>
      events.match(new RegExp(`copy \\((un)?pack\\): ${word}`, "g"))?.length ?? 0;
    return count("started") === count("(exited|crashed|not)");
  });
}

test("a tree comes out as it lies there", async () => {
  const tree = await makeTree();
  const input = await client().getArchive(tree, deadline());
  const summary = await unpackArchive(join(directory, "into"), {
    input,
    signal: deadline(),
    owners: "caller",
    specialModes: "keep",
  });
  expect(summary.entries).toBe(6);
  await assertSameTree(join(directory, "into", "tree"));
});

test("a tree goes in as it was sent", async () => {
  const tree = await makeTree();
  const summary = await put(join(directory, "into"), async (output) => {
    await packArchive(tree, { output, signal: deadline() });
  });
  expect(summary).toEqual({ entries: 6, bytes: 3 * MIB + 6 });
  await assertSameTree(join(directory, "into", "tree"));
});

test.each([
  ["/no/such/file", 404, "E_ARCHIVE_NOT_FOUND"],
  ["relative", 400, "E_CONTROL_REQUEST"],
  ["", 400, "E_CONTROL_REQUEST"],
])("reading %j is refused with %i %s", async (path, status, code) => {
  const answer = await enclave().request("GET", `/v1/archive?path=${encodeURIComponent(path)}`);
  expect({ status: answer.status, body: JSON.parse(answer.text) as unknown }).toMatchObject({
    status,
    body: { code },
  });
});

test("writing below what is not there is refused, though the client would send much more", async () => {
  const refused = put("/no/such/directory/at/all", async (output) => {
    const block = Buffer.alloc(MIB);
    for (let index = 0; index < 64; index += 1) await sendBytes(block)(output);
  });
  await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/^E_ARCHIVE_/) as unknown });
  await expectFreeSessions();
});

test("a refusal in the middle of what is sent reaches the client, and leaves nothing half-made", async () => {
  const tree = await makeTree();
  const archive = await packToBytes(tree);
  const broken = Buffer.concat([archive.subarray(0, -1024), Buffer.alloc(512, "x"), Buffer.alloc(8 * MIB)]);
  await expect(put(join(directory, "into"), sendBytes(broken))).rejects.toMatchObject({
    code: "E_ARCHIVE_FORMAT",
  });
  expect(await readdir(join(directory, "into"))).toEqual([]);
  await expectFreeSessions();
});

test("a client that is gone in the middle leaves nothing behind", async () => {
  const archive = await packToBytes(await makeTree());
  const socket = open(enclave());
  const path = encodeURIComponent(join(directory, "into"));
  socket.write(
    `PUT /v1/archive?path=${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-tar\r\ncontent-length: ${archive.length}\r\n\r\n`,
  );
  socket.write(archive.subarray(0, 2 * MIB));
  await eventually("a beginning", async () => (await readdir(join(directory, "into"))).length > 0);
  socket.destroy();
  await expectFreeSessions();
  expect(await readdir(join(directory, "into"))).toEqual([]);
});

test("a gateway that is killed in the middle of a copy leaves nothing behind", async () => {
  const archive = await packToBytes(await makeTree());
  const socket = open(enclave());
  const path = encodeURIComponent(join(directory, "into"));
  socket.write(
    `PUT /v1/archive?path=${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-tar\r\ncontent-length: ${archive.length}\r\n\r\n`,
  );
  socket.write(archive.subarray(0, 2 * MIB));
  await eventually("a beginning", async () => (await readdir(join(directory, "into"))).length > 0);
  const { gateway } = await enclave().status();
  process.kill(gateway.pid ?? 0, "SIGKILL");
  await eventually("the next gateway", async () => {
    const status = await enclave()
      .status()
      .catch(() => undefined);
    return status !== undefined && status.gateway.pid !== gateway.pid;
  });
  await expectFreeSessions();
  socket.destroy();
  expect(await readdir(join(directory, "into"))).toEqual([]);
});

test("a client that takes no more of what it reads costs nothing once it is gone", async () => {
  await writeFile(join(directory, "from", "huge"), Buffer.alloc(32 * MIB));
  const path = encodeURIComponent(join(directory, "from", "huge"));
  for (let round = 0; round < 4; round += 1) {
    const socket = open(enclave());
    socket.write(`GET /v1/archive?path=${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await once(socket, "data");
    socket.destroy();
  }
  await expectFreeSessions();
});

test("what was cut while it was packed is seen to be cut", async () => {
  await writeFile(join(directory, "from", "huge"), Buffer.alloc(32 * MIB));
  const path = encodeURIComponent(join(directory, "from", "huge"));
  const socket = open(enclave());
  socket.write(`GET /v1/archive?path=${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await once(socket, "readable");
  await writeFile(join(directory, "from", "huge"), Buffer.alloc(1 * MIB));
  const answer = await text(socket.setEncoding("latin1")).catch(() => "cut");
  expect(answer.endsWith("\r\n0\r\n\r\n")).toBe(false);
});

test("a body of another type, and a copy where no session is left, are refused", async () => {
  const path = `/v1/archive?path=${encodeURIComponent(join(directory, "into"))}`;
  const socket = open(enclave());
  socket.write(
    `PUT ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx`,
  );
  expect(parseAnswer(await text(socket))).toMatchObject({ status: 400, body: { code: "E_CONTROL_REQUEST" } });
  for (let index = 0; index < MAX_SESSIONS; index += 1) await create(enclave(), { command: ["true"] });
  const answer = await enclave().request("GET", path);
  expect({ status: answer.status, body: JSON.parse(answer.text) as unknown }).toMatchObject({
    status: 503,
    body: { code: "E_CONTROL_BUSY" },
  });
});
