import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { packArchive } from "../../archive/pack-archive.ts";
import { unpackArchive } from "../../archive/unpack-archive.ts";
import { ControlClient } from "../../control/control-client.ts";
import { type ExecOptions, runExec } from "../../control/exec-session.ts";
import type { ExecStatus } from "../../wire/control.ts";
import { waitFor } from "../e2e/testbed.ts";
import { accept, FakeGateway, frameOf, sendJson, serviceOf } from "./fake-gateway.ts";
import { FIRST_REPORT } from "../../wire/attestation-server.ts";

let directory: string;
let gateway: FakeGateway;
let client: ControlClient;
let ended: AbortController;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cc-"));
  gateway = await FakeGateway.open(join(directory, "9001"));
  client = new ControlClient(gateway.dial);
  ended = new AbortController();
});
afterEach(async () => {
  ended.abort();
  await gateway[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function until(check: () => boolean): Promise<void> {
  await waitFor("a condition of the gateway", async () => (check() ? true : undefined), 5_000);
}

class Collected extends Writable {
  readonly chunks: Buffer[] = [];
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.chunks.push(Buffer.from(chunk));
    done();
  }
  get text(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }
}

interface ExecResult {
  readonly status: ExecStatus;
  readonly stdout: string;
  readonly stderr: string;
}

async function exec(command: readonly string[], options: Partial<ExecOptions> = {}): Promise<ExecResult> {
  const stdout = new Collected();
  const stderr = new Collected();
  const status = await runExec(client, { command }, { stdout, stderr, signal: ended.signal, ...options });
  return { status, stdout: stdout.text, stderr: stderr.text };
}

const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "no refusal",
    (error: unknown) => (error instanceof Error && "code" in error ? error.code : error),
  );

describe("requests", () => {
  test("answers come back as they were sent", async () => {
    expect(await client.status(ended.signal)).toMatchObject({ name: "fake", services: gateway.services });
    expect(await client.services(ended.signal)).toEqual(gateway.services);
    expect(await client.service("redis", ended.signal)).toEqual(serviceOf("redis"));
    expect(await client.act("web", "stop", ended.signal)).toMatchObject({ name: "web", state: "stopped" });
    expect((await client.stats(ended.signal)).services).toHaveLength(2);
    await client.poweroff(ended.signal);
    expect(gateway.seen.at(-1)).toBe("POST /v1/poweroff");
  });

  test("a reload sends services only where there are some", async () => {
    await client.reload({}, ended.signal);
    expect(await client.reload({ services: [{ name: "new" }] }, ended.signal)).toMatchObject({
      added: ["new"],
    });
    expect(gateway.bodies).toEqual([{}, { services: [{ name: "new" }] }]);
  });

  test("a refusal is the enclave's own, without what moves a cursor", async () => {
    gateway.routes.set("GET /v1/status", (_request, response) =>
      sendJson(response, 403, {
        code: "E_CONTROL_CLOSED",
        message: "closed\u001B[2J",
        hint: "no",
        details: { why: 1 },
      }),
    );
    await expect(client.status(ended.signal)).rejects.toMatchObject({
      code: "E_CONTROL_CLOSED",
      message: "closed[2J",
      hint: "no",
      details: { why: 1 },
    });
  });

  test("names are escaped on their way", async () => {
    await codeOf(client.service("../../v1/status?x#y", ended.signal));
    expect(gateway.seen).toEqual(["GET /v1/services/..%2F..%2Fv1%2Fstatus%3Fx%23y"]);
  });

  test("no connection is left behind", async () => {
    for (let round = 0; round < 20; round += 1) await client.status(ended.signal);
    await codeOf(client.service("nobody", ended.signal));
    await until(() => gateway.connections === 0);
    expect(gateway.seen).toHaveLength(21);
  });

  test("cancelling ends the wait with the caller's reason and closes the connection", async () => {
    gateway.routes.set("GET /v1/status", () => new Promise(() => undefined));
    const reason = new Error("enough");
    const asked = client.status(ended.signal);
    await until(() => gateway.seen.length === 1);
    ended.abort(reason);
    await expect(asked).rejects.toBe(reason);
    await until(() => gateway.connections === 0);
  });
});

describe("streams", () => {
  const entry = (line: string, service = "web") =>
    ({ seq: 1, time: 5, service, stream: "stdout", line }) as const;

  test("logs are asked for as the caller wants them and come in order", async () => {
    gateway.logs.push(entry("a"), entry("b", "redis"), entry("ä\u0000"));
    const lines: string[] = [];
    const query = { services: ["web"], since: 4.6, tail: 2, follow: false };
    for await (const batch of client.logs(query, ended.signal))
      lines.push(...batch.map((item) => ("line" in item ? item.line : "")));
    expect(lines).toEqual(["a", "ä\u0000"]);
    expect(gateway.seen).toEqual(["GET /v1/logs?service=web&since=5&tail=2&follow=false"]);
  });

  test("a stream that is followed ends when the caller has enough", async () => {
    gateway.events.push({ seq: 1, time: 1, type: "enclave", service: null, message: "ready" });
    for await (const batch of client.events(true, ended.signal)) {
      if (batch.length === 0) continue;
      expect(batch[0]?.message).toBe("ready");
      break;
    }
    await until(() => gateway.connections === 0);
  });

  test("samples come again and again", async () => {
    let count = 0;
    for await (const sample of client.statsStream(100, ended.signal)) {
      expect(sample.services.map((one) => one.name)).toEqual(["web", "redis"]);
      count += 1;
      if (count === 3) break;
    }
    expect(count).toBe(3);
  });
});

describe("hostile answers", () => {
  const HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
  const json = (value: unknown): string => {
    const text = JSON.stringify(value);
    return `${HEAD}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
  };
  const good = (change: object): string =>
    json({
      name: "x",
      mode: "development",
      attestation: "development",
      supervisor: { pid: 2, restarts: 0, previousExit: null },
      gateway: { pid: 3, restarts: 0 },
      attestationServer: { pid: 4, restarts: 0, ...FIRST_REPORT },
      isolated: true,
      stopping: false,
      overridden: false,
      services: [],
      ...change,
    });

  /** Answers with these bytes and nothing else. */
  function answerRaw(text: string, isEnded = true): void {
    gateway.routes.set("GET /v1/status", (request) => {
      request.socket.write(text);
      if (isEnded) request.socket.end();
    });
  }

  test("the good answer of the table below is taken", async () => {
    answerRaw(good({}));
    expect(await client.status(ended.signal)).toMatchObject({ name: "x" });
  });

  test.each([
    ["no HTTP", "hello\n", "E_HOST_CONTROL"],
    ["nothing at all", "", "E_CONTROL_LOST"],
    ["a head that goes on and on", `${HEAD}${"x: y\r\n".repeat(10_000)}`, "E_HOST_CONTROL"],
    ["one header without end", `${HEAD}x: ${"y".repeat(100_000)}`, "E_HOST_CONTROL"],
    ["a body that was cut", `${HEAD}content-length: 100\r\n\r\n{`, "E_CONTROL_LOST"],
    ["a chunk that was cut", `${HEAD}transfer-encoding: chunked\r\n\r\n5\r\n{}`, "E_CONTROL_LOST"],
    ["a chunk with a wrong length", `${HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n{}`, "E_HOST_CONTROL"],
    ["a body of another kind", `${HEAD}content-length: 5\r\n\r\nhello`, "E_HOST_CONTROL"],
    ["a body larger than any status", `${HEAD}\r\n${" ".repeat(4 * 1024 * 1024 + 1)}`, "E_HOST_CONTROL"],
    ["deep nesting", `${HEAD}\r\n${"[".repeat(100_000)}`, "E_HOST_CONTROL"],
    ["another shape", json({ name: 1 }), "E_HOST_CONTROL"],
    ["a name that is too long", good({ name: "x".repeat(65) }), "E_HOST_CONTROL"],
    [
      "too many services",
      good({ services: Array.from({ length: 257 }, () => serviceOf("a")) }),
      "E_HOST_CONTROL",
    ],
    [
      "a state that does not exist",
      good({ services: [{ ...serviceOf("a"), state: "odd" }] }),
      "E_HOST_CONTROL",
    ],
    [
      "a protocol nobody asked for",
      "HTTP/1.1 101 X\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n",
      "E_CONTROL_LOST",
    ],
    [
      "a redirection",
      "HTTP/1.1 302 X\r\nlocation: http://host/\r\ncontent-length: 0\r\n\r\n",
      "E_HOST_CONTROL",
    ],
    ["an error that is none of ours", `HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}`, "E_HOST_CONTROL"],
  ])("%s is refused", async (_name, text, code) => {
    answerRaw(text);
    expect(await codeOf(client.status(ended.signal))).toBe(code);
    await until(() => gateway.connections === 0);
  });

  test("a refusal with a huge body or an unknown code is one of ours", async () => {
    for (const body of [{ code: "E_NOT_OURS" }, { code: "E_USAGE", message: "x".repeat(100_000) }]) {
      gateway.routes.set("GET /v1/status", (_request, response) =>
        sendJson(response, 500, { hint: "", details: {}, message: "", ...body }),
      );
      await expect(client.status(ended.signal)).rejects.toMatchObject({
        code: "E_HOST_CONTROL",
        message: expect.stringContaining("HTTP status 500"),
      });
    }
  });

  test("an answer that never ends is ended by the caller's deadline", async () => {
    answerRaw(`${HEAD}content-length: 100\r\n\r\n{`, false);
    const deadline = AbortSignal.timeout(300);
    await expect(client.status(deadline)).rejects.toMatchObject({ name: "TimeoutError" });
    await until(() => gateway.connections === 0);
  });

  test("informational heads without end are ended by the caller's deadline", async () => {
    gateway.routes.set("GET /v1/status", (request) => {
      const timer = setInterval(() => request.socket.write("HTTP/1.1 102 Processing\r\n\r\n"), 5);
      request.socket.once("close", () => clearInterval(timer));
    });
    await expect(client.status(AbortSignal.timeout(300))).rejects.toMatchObject({ name: "TimeoutError" });
  });

  test.each([
    ["a line that does not end", "x".repeat(300 * 1024)],
    ["a line that is no JSON", "{\n"],
    ["an empty line", "\n"],
    ["a line of another shape", '{"seq":-1}\n'],
    ["a last line without its end", '{"dropped":1}'],
  ])("a log with %s is refused", async (_name, text) => {
    gateway.routes.set("GET /v1/logs", (_request, response) => response.end(text));
    const read = async (): Promise<void> => {
      for await (const batch of client.logs({ follow: false }, ended.signal)) expect(batch).toEqual([]);
    };
    expect(await codeOf(read())).toBe("E_HOST_CONTROL");
    await until(() => gateway.connections === 0);
  });

  test("a log that breaks off is told from one that ends", async () => {
    gateway.routes.set("GET /v1/logs", (_request, response) => {
      response.write('{"dropped":1}\n', () => response.destroy());
    });
    const batches: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const batch of client.logs({ follow: true }, ended.signal)) batches.push(...batch);
    };
    expect(await codeOf(read())).toBe("E_CONTROL_LOST");
    expect(batches).toEqual([{ dropped: 1 }]);
  });

  const upgradeTo = (use: (socket: Socket) => void): Promise<unknown> => {
    gateway.upgrades.set("/v1/exec/1/start", use);
    return codeOf(exec(["true"]));
  };
  test.each([
    [
      "another protocol",
      "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
      "E_HOST_CONTROL",
    ],
    ["no protocol", "HTTP/1.1 101 X\r\nconnection: upgrade\r\n\r\n", "E_HOST_CONTROL"],
    ["an ordinary answer", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "E_HOST_CONTROL"],
    ["a refusal", "HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", "E_HOST_CONTROL"],
    ["the end of the connection", "", "E_CONTROL_LOST"],
  ])("%s instead of a stream is refused", async (_name, text, code) => {
    expect(await upgradeTo((socket) => void socket.end(text))).toBe(code);
  });

  test("a stream cut within a frame, and one that is no frames, are refused", async () => {
    const cut = upgradeTo((socket) => {
      accept(socket);
      socket.resume().end(frameOf(1, Buffer.from("hello")).subarray(0, 9));
    });
    expect(await cut).toBe("E_CONTROL_LOST");
    gateway.upgrades.set("/v1/exec/2/start", (socket: Socket) => {
      accept(socket);
      socket
        .once("end", () => socket.end())
        .resume()
        .write("hello hello");
    });
    expect(await codeOf(exec(["true"]))).toBe("E_HOST_CONTROL");
    await until(() => gateway.connections === 0);
  });
});

describe("exec", () => {
  test("output, errors and status of a command come back apart", async () => {
    const { status, stdout, stderr } = await exec(["sh", "-c", "echo out; echo err >&2; exit 7"]);
    expect({ stdout, stderr }).toEqual({ stdout: "out\n", stderr: "err\n" });
    expect(status).toMatchObject({ state: "ended", exitCode: 7 });
  });

  test("without input the command's input is empty", async () => {
    expect((await exec(["cat"])).stdout).toBe("");
  });

  test("input goes in whole, its end is seen, and bytes come back as they are", async () => {
    const bytes = randomBytes(3_000_000);
    const { stdout } = await exec(["cat"], {
      stdin: Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]),
    });
    expect(createHash("sha256").update(Buffer.from(stdout, "latin1")).digest("hex")).toBe(
      createHash("sha256").update(bytes).digest("hex"),
    );
  });

  test("a command that ends before its input does is no failure", async () => {
    const stdin = new Readable({ read: () => undefined });
    stdin.push("x");
    expect((await exec(["sh", "-c", "exit 3"], { stdin })).status.exitCode).toBe(3);
  });

  test("a reader that takes its time holds the command back, not the memory", async () => {
    let largest = 0;
    const slow = new Writable({
      highWaterMark: 1024,
      write: (_chunk, _encoding, done) => {
        largest = Math.max(largest, slow.writableLength);
        setImmediate(done);
      },
    });
    const { status } = await exec(["head", "-c", "5000000", "/dev/zero"], { stdout: slow });
    expect(status.exitCode).toBe(0);
    expect(largest).toBeLessThan(1_000_000);
  });

  test("what was not executed is told", async () => {
    const { status } = await exec(["/no/such/program"]);
    expect(status).toMatchObject({ exitCode: 127, reason: expect.stringMatching(/^not executed/) });
  });

  test("cancelling ends the command and then the wait", async () => {
    const stdout = new Collected();
    const running = exec(["sh", "-c", "echo begun; exec sleep 1000"], { stdout });
    await until(() => stdout.text === "begun\n");
    ended.abort();
    expect(await codeOf(running)).toBe(DOMException.ABORT_ERR);
    expect(gateway.signals).toEqual(["SIGTERM"]);
  });

  test("a command that ignores SIGTERM is killed", async () => {
    const stdout = new Collected();
    const running = exec(["sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done"], { stdout });
    await until(() => stdout.text === "begun\n");
    ended.abort();
    expect(await codeOf(running)).toBe(DOMException.ABORT_ERR);
    expect(gateway.signals).toEqual(["SIGTERM", "SIGKILL"]);
  });
});

describe("archives", () => {
  const pack = (path: string) => async (output: Writable) => {
    await packArchive(path, { output, signal: ended.signal });
  };

  test("a file goes in and comes out again", async () => {
    const bytes = randomBytes(2_000_000);
    await writeFile(join(directory, "a"), bytes);
    const summary = await client.putArchive(join(directory, "b"), pack(join(directory, "a")), ended.signal);
    expect(summary).toEqual({ entries: 1, bytes: bytes.length });
    await using input = await client.getArchive(join(directory, "b"), ended.signal);
    const policy = { owners: "caller", specialModes: "drop" } as const;
    await unpackArchive(join(directory, "c"), { input, signal: ended.signal, ...policy });
    expect((await readFile(join(directory, "c"))).equals(bytes)).toBe(true);
  });

  test("a refusal before the first byte is the enclave's own", async () => {
    expect(await codeOf(client.getArchive("/no/such/file", ended.signal))).toBe("E_ARCHIVE_NOT_FOUND");
  });

  test("a refusal in the middle of the sending counts more than the broken connection", async () => {
    await writeFile(join(directory, "a"), Buffer.alloc(30_000_000));
    gateway.routes.set("PUT /v1/archive", (request, response) => {
      request.resume();
      sendJson(response, 409, { code: "E_ARCHIVE_DESTINATION", message: "no", hint: "", details: {} });
    });
    const sent = client.putArchive("/x", pack(join(directory, "a")), ended.signal);
    expect(await codeOf(sent)).toBe("E_ARCHIVE_DESTINATION");
    await until(() => gateway.connections === 0);
  });

  test("an archive that breaks off is not taken for whole, in either direction", async () => {
    await writeFile(join(directory, "a"), Buffer.alloc(30_000_000));
    gateway.routes.set("GET /v1/archive", async (_request, response) => {
      response.write(Buffer.alloc(512), () => response.destroy());
    });
    const read = async (): Promise<void> => {
      await using input = await client.getArchive("/a", ended.signal);
      for await (const _chunk of input);
    };
    await expect(read()).rejects.toThrow();
    gateway.routes.set("PUT /v1/archive", (request) => request.socket.destroy());
    const sent = client.putArchive("/x", pack(join(directory, "a")), ended.signal);
    expect(["E_ARCHIVE_STREAM", "E_CONTROL_LOST"]).toContain(await codeOf(sent));
  });

  test("a sender that fails breaks the copy off and says its own reason", async () => {
    let isWhole: boolean | undefined;
    gateway.routes.set("PUT /v1/archive", async (request) => {
      request.resume().once("close", () => (isWhole = request.complete));
    });
    const failing = async (output: Writable): Promise<void> => {
      await new Promise((resolve) => output.write(Buffer.alloc(512), resolve));
      throw new RangeError("mine");
    };
    await expect(client.putArchive("/x", failing, ended.signal)).rejects.toThrow("mine");
    await until(() => isWhole === false);
  });

  test("cancelling breaks a copy off", async () => {
    gateway.routes.set("PUT /v1/archive", (request) => request.resume());
    await writeFile(join(directory, "a"), Buffer.alloc(30_000_000));
    const sent = client.putArchive("/x", pack(join(directory, "a")), ended.signal);
    await until(() => gateway.seen.length === 1);
    ended.abort();
    expect(await codeOf(sent)).toBe(DOMException.ABORT_ERR);
    await until(() => gateway.connections === 0);
  });
});
