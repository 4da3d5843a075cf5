/** The bytes of sessions: which way they go, that all arrive, and that nobody keeps them meanwhile. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ExecFrameDecoder } from "../../control/exec-frames.ts";
import { eventually } from "./eventually.ts";
import {
  create,
  open,
  parseAnswer,
  postJson,
  RawSession,
  residentMib,
  sh,
  startHead,
  untilGone,
} from "./raw-session.ts";
import { RunningSupervisor } from "./running-supervisor.ts";
import { enclaveConfig, shellService } from "./service-configs.ts";

const MIB = 1024 ** 2;
const BLOCKS = 20;
const running: { enclave?: RunningSupervisor } = {};

function enclave(): RunningSupervisor {
  if (running.enclave === undefined) throw new Error("not started");
  return running.enclave;
}

beforeAll(async () => {
  running.enclave = await RunningSupervisor.startReady(
    enclaveConfig([shellService("web", "exec sleep 1000")]),
  );
});
afterAll(async () => {
  await running.enclave?.[Symbol.asyncDispose]();
});

describe("without a terminal", () => {
  test("output and errors come in frames of their own, and every byte value survives", async () => {
    const session = await RawSession.start(enclave(), sh("cat; echo err >&2; exit 4"));
    const bytes = Buffer.from(Array.from({ length: 256 }, (_item, value) => value));
    session.socket.end(bytes);
    expect(await session.finish()).toMatchObject({
      stdout: bytes.toString("latin1"),
      stderr: "err\n",
      exitCode: 4,
      reason: "exited(4)",
    });
  });

  test("megabytes go both ways unharmed, and pass through little memory", async () => {
    const id = await create(enclave(), { command: ["cat"] });
    const socket = open(enclave());
    socket.write(startHead(id));
    const before = await residentMib(enclave());
    const [sent, received] = [createHash("sha256"), createHash("sha256")];
    const peak = { gateway: 0, supervisor: 0 };
    const source = Readable.from(
      (async function* () {
        for (let index = 0; index < BLOCKS; index += 1) {
          const block = randomBytes(MIB);
          sent.update(block);
          yield block;
          const now = await residentMib(enclave());
          peak.gateway = Math.max(peak.gateway, now.gateway);
          peak.supervisor = Math.max(peak.supervisor, now.supervisor);
        }
      })(),
    );
    source.pipe(socket);
    const decoder = new ExecFrameDecoder();
    let head = Buffer.alloc(0);
    let isStream = false;
    let sizeBytes = 0;
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      let bytes = chunk;
      if (!isStream) {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf("\r\n\r\n");
        if (end === -1) continue;
        isStream = true;
        bytes = head.subarray(end + 4);
      }
      for (const output of decoder.push(bytes)) {
        received.update(output.bytes);
        sizeBytes += output.bytes.length;
      }
    }
    expect(sizeBytes).toBe(BLOCKS * MIB);
    expect(received.digest("hex")).toBe(sent.digest("hex"));
    expect(peak.gateway - before.gateway).toBeLessThan(40);
    expect(peak.supervisor - before.supervisor).toBeLessThan(16);
  });

  test("input that nobody reads stays with the client, and a client that leaves then is noticed", async () => {
    const session = await RawSession.start(enclave(), sh("echo $$; exec sleep 1000"));
    const pid = await session.pid();
    const before = await residentMib(enclave());
    const block = Buffer.alloc(MIB);
    for (let index = 0; index < 64; index += 1) session.socket.write(block);
    const held = await eventually("a client that is held back", async () => {
      const left = session.socket.writableLength;
      await enclave().status();
      return left > 0 && left === session.socket.writableLength ? left : undefined;
    });
    expect(held).toBeGreaterThan(60 * MIB);
    const now = await residentMib(enclave());
    expect(now.gateway - before.gateway).toBeLessThan(16);
    expect(now.supervisor - before.supervisor).toBeLessThan(16);
    session.socket.destroy();
    await untilGone(pid);
  });

  test("a command that ends with its input unread has its status and its last words told", async () => {
    const session = await RawSession.start(enclave(), sh("exec 0<&-; echo last words; exit 6"));
    session.socket.write(Buffer.alloc(4 * MIB));
    expect(await session.finish()).toMatchObject({ stdout: "last words\n", exitCode: 6 });
  });

  test("a client that reads late gets all that a long ended command had printed", async () => {
    const id = await create(enclave(), sh("head -c 150000 /dev/zero; echo end >&2"));
    const socket = open(enclave());
    socket.pause().end(startHead(id));
    await eventually("the end of the command", async () => {
      const { text: json } = await enclave().request("GET", `/v1/exec/${id}`);
      return json.includes("ended");
    });
    const output = await text(socket.setEncoding("latin1"));
    const frames = new ExecFrameDecoder().push(
      Buffer.from(output.slice(output.indexOf("\r\n\r\n") + 4), "latin1"),
    );
    const sizes = { stdout: 0, stderr: 0 };
    for (const { stream, bytes } of frames) sizes[stream] += bytes.length;
    expect(sizes).toEqual({ stdout: 150_000, stderr: 4 });
  });
});

describe("with a terminal", () => {
  test("the command has one, of the size that was asked for and then of the new one", async () => {
    const script = "test -t 0 && test -t 1 && test -t 2 && stty size; read line; stty size; exit 3";
    const session = await RawSession.start(enclave(), sh(script, { tty: true }), "", {
      rows: 33,
      columns: 101,
    });
    await eventually("the first size", () => session.raw.includes("33 101\r\n"));
    const answer = await postJson(enclave(), `/v1/exec/${session.id}/resize`, { rows: 44, columns: 55 });
    expect(answer.status).toBe(204);
    session.socket.write("\n");
    expect(await session.finish()).toMatchObject({ exitCode: 3 });
    expect(session.raw).toContain("44 55\r\n");
  });

  test("its interrupt character interrupts", async () => {
    const session = await RawSession.start(enclave(), sh("echo $$; exec sleep 1000", { tty: true }));
    await session.pid();
    session.socket.write("\u0003");
    expect(await session.finish()).toMatchObject({ exitCode: 130, reason: "crashed(SIGINT)" });
  });

  test("what was typed ahead and never read does not cost the command's last words", async () => {
    const session = await RawSession.start(
      enclave(),
      sh("stty raw -echo; echo ready; dd bs=1 count=1 status=none; echo last words", { tty: true }),
    );
    await eventually("the program", () => session.raw.includes("ready"));
    session.socket.write("x".repeat(200_000));
    expect(await session.finish()).toMatchObject({ exitCode: 0 });
    expect(session.raw).toContain("last words");
  });

  test("its command is gone when its client is", async () => {
    const session = await RawSession.start(enclave(), sh("echo $$; exec sleep 1000", { tty: true }));
    const pid = await session.pid();
    session.socket.destroy();
    await untilGone(pid);
  });
});

describe("requests", () => {
  test.each([
    ["an argument longer than the kernel takes", { command: ["true", "a".repeat(131_072)] }, 126, /E2BIG/],
    [
      "a directory that is not there",
      { command: ["true"], workingDir: "/no/such" },
      126,
      /ENOENT .*\(directory\)/,
    ],
    ["a program that is a directory", { command: ["/tmp"] }, 126, /EACCES/],
    ["a program that is not there", { command: ["no-such-program"] }, 127, /ENOENT/],
  ])("%s is a status and a reason", async (_name, request, exitCode, reason) => {
    const session = await RawSession.start(enclave(), request);
    const end = await session.finish();
    expect(end).toMatchObject({ exitCode, reason: expect.stringMatching(/^not executed: /) as unknown });
    expect(end.reason).toMatch(reason);
  });

  test.each([
    ["no command", { command: [] }],
    ["a NUL character", { command: ["a\0b"] }],
    ["a name with an equals sign", { command: ["true"], environment: { "a=b": "" } }],
    ["a relative directory", { command: ["true"], workingDir: "tmp" }],
    ["an unknown key", { command: ["true"], privileged: true }],
    ["more words than there may be", { command: Array.from({ length: 1025 }, () => "x") }],
    ["no object", "[]"],
    ["no JSON", "{"],
  ])("%s is refused before anything is made", async (_name, request) => {
    expect(await postJson(enclave(), "/v1/exec", request)).toMatchObject({
      status: 400,
      body: { code: "E_CONTROL_REQUEST" },
    });
  });

  test.each([
    ["resize", { rows: 0, columns: 10 }, 400, "E_CONTROL_REQUEST"],
    ["resize", { rows: 10, columns: 10 }, 404, "E_EXEC_UNKNOWN"],
    ["signal", { signal: "9" }, 400, "E_CONTROL_REQUEST"],
    ["signal", { signal: "SIGTERM" }, 404, "E_EXEC_UNKNOWN"],
  ])("%s %j of an unknown session is refused with %i %s", async (act, body, status, code) => {
    expect(await postJson(enclave(), `/v1/exec/77777/${act}`, body)).toMatchObject({
      status,
      body: { code },
    });
  });

  test("a signal that does not exist is refused, one that does ends the command", async () => {
    const session = await RawSession.start(enclave(), { command: ["sleep", "1000"] });
    const path = `/v1/exec/${session.id}/signal`;
    expect(await postJson(enclave(), path, { signal: "SIGNOTHING" })).toMatchObject({
      status: 400,
      body: { code: "E_CONTROL_REQUEST" },
    });
    expect(await postJson(enclave(), path, { signal: "SIGUSR1" })).toMatchObject({ status: 204 });
    expect(await session.finish()).toMatchObject({ exitCode: 138, reason: "crashed(SIGUSR1)" });
    expect(await postJson(enclave(), path, { signal: "SIGUSR1" })).toMatchObject({ status: 204 });
  });

  test.each([
    ["another protocol", (id: number) => startHead(id, "{}", "websocket"), "E_CONTROL_REQUEST"],
    ["a body that is no JSON", (id: number) => startHead(id, "{{"), "E_CONTROL_REQUEST"],
    ["a size out of range", (id: number) => startHead(id, '{"rows":0}'), "E_CONTROL_REQUEST"],
    [
      "a body that is too large",
      (id: number) => startHead(id, `{"rows":${"1".repeat(5_000)}}`),
      "E_CONTROL_REQUEST",
    ],
    ["a number that is none", () => startHead("1e3"), "E_CONTROL_REQUEST"],
    ["another method", (id: number) => startHead(id).replace("POST", "GET"), "E_CONTROL_NOT_FOUND"],
  ])(
    "a start with %s is answered with its refusal, and the session can still be started",
    async (_name, head, code) => {
      const id = await create(enclave(), { command: ["true"] });
      const socket = open(enclave());
      let answer = "";
      socket.on("data", (chunk: Buffer) => (answer += chunk.toString("latin1")));
      socket.write(head(id));
      await once(socket, "end");
      socket.destroy();
      expect(parseAnswer(answer).body).toMatchObject({ code });
      const again = open(enclave());
      again.write(startHead(id));
      expect(await text(again)).toMatch(/^HTTP\/1\.1 101 /);
    },
  );
});
