import { execFile, execFileSync } from "node:child_process";
import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { Resolver as Client } from "node:dns/promises";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { promisify } from "node:util";
import { encode, streamEncode } from "dns-packet";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { createLog, type Log } from "../../../core/log.ts";
import { NameTable, toIpv6Form } from "../../../pf-proxy/names/name-table.ts";
import { EgressPolicy } from "../../../pf-proxy/policy/egress-policy.ts";
import { openDnsListeners } from "../../../pf-proxy/resolver/dns-listeners.ts";
import { Resolver } from "../../../pf-proxy/resolver/resolver.ts";
import { CODE, longestName, readAnswer, writeName, writeQuestion } from "./dns-questions.ts";

const HTTPS = [{ from: 443, to: 443 }];
const FIRST = "198.18.1.0";
const PLACES = ["127.0.0.1", "::1"] as const;
const isThere = (program: string): boolean => {
  try {
    execFileSync(program, ["-v"], { stdio: "ignore" });
    return true;
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ENOENT");
  }
};

let bed: AsyncDisposableStack;
let resolver: Resolver;
let names: NameTable;
let denied: string[];
let lines: string[];
let log: Log;
let port: number;

beforeEach(async () => {
  bed = new AsyncDisposableStack();
  const policy = new EgressPolicy(
    ["a.test", "*.wild.test"].map((host) => ({ action: "allow", host, ports: HTTPS })),
  );
  names = await NameTable.open({ names: policy.exactNames() });
  denied = [];
  lines = [];
  log = createLog({ write: (line) => lines.push(line), now: () => 0 });
  resolver = new Resolver({
    answersName: (name) => policy.answersName(name),
    names,
    ipv6: true,
    onDenied: (name) => denied.push(name),
  });
  port = await findPort();
});
afterEach(() => bed.disposeAsync());

async function listen(streamTimeoutMs = 10_000): Promise<void> {
  bed.use(await openDnsListeners({ addresses: PLACES, port, resolver, log, streamTimeoutMs }));
}

/** Free for both protocols and families a moment ago. */
async function findPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function clientOf(place: string): Client {
  const client = new Client({ timeout: 5000, tries: 2 });
  client.setServers([place.includes(":") ? `[${place}]:${port}` : `${place}:${port}`]);
  return client;
}

async function openDatagrams(): Promise<DatagramSocket> {
  const socket = createSocket("udp4");
  bed.defer(() => void socket.close());
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

async function openStream(): Promise<{
  readonly socket: Socket;
  readonly read: (count: number) => Promise<Buffer[]>;
}> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  bed.defer(() => void socket.destroy());
  await once(socket, "connect");
  let kept = Buffer.alloc(0);
  const chunks = socket.iterator({ destroyOnReturn: false });
  const read = async (count: number): Promise<Buffer[]> => {
    const messages: Buffer[] = [];
    for (;;) {
      while (messages.length < count && kept.length >= 2 && kept.length >= 2 + kept.readUInt16BE(0)) {
        const end = 2 + kept.readUInt16BE(0);
        messages.push(kept.subarray(2, end));
        kept = kept.subarray(end);
      }
      if (messages.length >= count) return messages;
      const { value, done } = await chunks.next();
      if (done === true) return messages;
      kept = Buffer.concat([kept, value]);
    }
  };
  return { socket, read };
}

function framed(message: Uint8Array): Buffer {
  return Buffer.concat([Uint8Array.of(message.length >> 8, message.length & 0xff), message]);
}

/** However it ends. */
async function closeOf(socket: Socket): Promise<void> {
  if (socket.closed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("close", resolve);
  await promise;
}

describe.each(PLACES)("a client that asks %s", (place) => {
  beforeEach(async () => await listen());

  test("finds the addresses of allowed names", async () => {
    const client = clientOf(place);
    expect(await client.resolve4("a.test", { ttl: true })).toEqual([{ address: FIRST, ttl: 60 }]);
    expect(await client.resolve6("a.test")).toEqual([toIpv6Form(FIRST)]);
    const [address] = await client.resolve4("x.wild.test");
    expect(names.nameAt(address ?? "")).toBe("x.wild.test");
    expect(await client.reverse(FIRST)).toEqual(["a.test"]);
    expect(await client.reverse(toIpv6Form(FIRST))).toEqual(["a.test"]);
    expect(await client.resolve4("localhost")).toEqual(["127.0.0.1"]);
    expect(denied).toEqual([]);
  });

  test("learns that others do not exist, and that allowed ones have no other records", async () => {
    const client = clientOf(place);
    await expect(client.resolve4("evil.test")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(client.resolve6("wild.test")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(client.resolveTxt("secret.evil.test")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(client.resolveMx("a.test")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(client.resolveTxt("x.wild.test")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(client.resolveSrv("a.test")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(client.resolveAny("a.test")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(client.reverse("9.9.9.9")).rejects.toMatchObject({ code: "ENOTFOUND" });
    expect(denied).toEqual(["evil.test", "wild.test", "secret.evil.test"]);
  });

  test("gets 150 answers to 150 questions at once", async () => {
    const client = clientOf(place);
    const asked = Array.from({ length: 150 }, (_item, index) => `n${index}.wild.test`);
    const found = await Promise.all(asked.map(async (name) => await client.resolve4(name)));
    expect(found.map(([address]) => names.nameAt(address ?? ""))).toEqual(asked);
  });

  test("finds the longest of names", async () => {
    const name = longestName("wild.test");
    expect(await clientOf(place).resolve4(name)).toEqual([await names.addressOf(name)]);
  });

  test.skipIf(!isThere("dig"))("with dig (if this machine has it) reads every answer", async () => {
    const dig = async (...words: string[]): Promise<string> => {
      const { stdout } = await promisify(execFile)("dig", [
        `@${place}`,
        "-p",
        `${port}`,
        "+tries=1",
        ...words,
      ]);
      return stdout;
    };
    for (const transport of ["+notcp", "+tcp"]) {
      expect(await dig(transport, "+short", "a.test")).toBe(`${FIRST}\n`);
      expect(await dig(transport, "+short", "a.test", "AAAA")).toBe(`${toIpv6Form(FIRST)}\n`);
      expect(await dig(transport, "+short", "-x", FIRST)).toBe("a.test.\n");
      const missing = await dig(transport, "evil.test");
      expect(missing).toContain("status: NXDOMAIN");
      expect(missing).not.toMatch(/WARNING|malformed/i);
      expect(await dig(transport, "+edns=1", "+noednsneg", "a.test")).toContain("status: BADVERS");
      expect(await dig(transport, "+opcode=NOTIFY", "a.test")).toContain("status: NOTIMP");
      expect(await dig(transport, "-c", "CH", "version.bind", "TXT")).toContain("status: REFUSED");
    }
  });
});

describe("over UDP", () => {
  beforeEach(async () => await listen());

  test("what is not worth an answer gets none, and the next question does", async () => {
    const socket = await openDatagrams();
    const answers: Buffer[] = [];
    socket.on("message", (message) => answers.push(message));
    const good = writeQuestion({ id: 7 });
    const nothing = [
      Buffer.alloc(0),
      Buffer.alloc(11),
      writeQuestion({ flags: 0x8000 }),
      Buffer.alloc(9000, 0xff),
    ];
    for (const message of [...nothing, good]) socket.send(message, port, "127.0.0.1");
    await expect.poll(() => answers.length, { timeout: 10_000 }).toBe(1);
    expect(readAnswer(answers[0])).toMatchObject({ id: 7, code: CODE.ok });
  });

  test("a flood of rubbish and refused names does not stop the answers", async () => {
    const socket = await openDatagrams();
    const rubbish = [
      Buffer.alloc(512, 0xff),
      writeQuestion({ name: Uint8Array.of(0xc0, 12) }),
      writeQuestion({ name: writeName("evil.test") }),
    ];
    for (let round = 0; round < 100; round += 1) {
      for (let index = 0; index < 100; index += 1)
        socket.send(rubbish[index % rubbish.length] ?? "", port, "127.0.0.1");
      expect(await clientOf("127.0.0.1").resolve4("a.test")).toEqual([FIRST]);
    }
    expect(names.size).toBe(1);
  });
});

describe("over TCP", () => {
  test("questions that follow each other are answered in their order", async () => {
    await listen();
    const { socket, read } = await openStream();
    const questions = Array.from({ length: 300 }, (_item, id) =>
      framed(writeQuestion({ id, name: writeName(`n${id}.${id % 2 === 0 ? "wild" : "evil"}.test`) })),
    );
    socket.write(Buffer.concat(questions));
    const answers = (await read(300)).map(readAnswer);
    expect(answers.map(({ id }) => id)).toEqual(questions.map((_item, id) => id));
    expect(answers.map(({ code }) => code)).toEqual(
      questions.map((_item, id) => (id % 2 === 0 ? CODE.ok : CODE.noSuchName)),
    );
  });

  test("a question may come byte by byte, and the client may end before the answer", async () => {
    await listen();
    const { socket, read } = await openStream();
    const message = streamEncode({ id: 9, type: "query", questions: [{ name: "a.test", type: "A" }] });
    for (const byte of message) {
      socket.write(Uint8Array.of(byte));
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    socket.end();
    expect((await read(2)).map((answer) => readAnswer(answer).id)).toEqual([9]);
    await closeOf(socket);
  });

  test("a malformed question is refused, and the next one answered", async () => {
    await listen();
    const { socket, read } = await openStream();
    socket.write(
      Buffer.concat([framed(writeQuestion({ name: Uint8Array.of(0xc0, 12) })), framed(writeQuestion())]),
    );
    expect((await read(2)).map((answer) => readAnswer(answer).code)).toEqual([CODE.malformed, CODE.ok]);
  });

  test.each([
    ["no length", Buffer.from([0, 0])],
    ["a length below that of a header", framed(Buffer.alloc(11))],
    ["the greatest length", Buffer.from([0xff, 0xff])],
    ["a length beyond 16 KiB", Buffer.from([0x40, 0x01])],
    ["an answer", framed(writeQuestion({ flags: 0x8180 }))],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
  ])("%s ends the connection", async (_title, bytes) => {
    await listen();
    const { socket, read } = await openStream();
    socket.write(bytes);
    expect(await read(1).catch(() => [])).toEqual([]);
    await closeOf(socket);
    expect(await clientOf("127.0.0.1").resolve4("a.test")).toEqual([FIRST]);
  });

  test("a message that is cut off at any byte ends with its connection", async () => {
    await listen();
    const whole = framed(writeQuestion());
    for (let length = 0; length < whole.length; length += 1) {
      const { socket, read } = await openStream();
      socket.end(whole.subarray(0, length));
      expect(await read(1)).toEqual([]);
      await closeOf(socket);
    }
  });

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["half a length", Buffer.from([0])],
    ["half a message", framed(writeQuestion()).subarray(0, 20)],
  ])("a client that sends %s is closed when its time is over", async (_title, bytes) => {
    await listen(100);
    const { socket } = await openStream();
    socket.resume().write(bytes);
    await closeOf(socket);
    expect(socket.destroyed).toBe(true);
  });

  test("a client that drips bytes gets no more time by that", async () => {
    await listen(300);
    const { socket } = await openStream();
    socket.resume();
    const drip = setInterval(() => socket.write(Uint8Array.of(1)), 20);
    bed.defer(() => clearInterval(drip));
    await closeOf(socket);
    expect(socket.destroyed).toBe(true);
  });

  test("a client that never takes its answers is closed when its time is over", async () => {
    await listen(300);
    const { socket } = await openStream();
    const name = writeName(longestName("evil.test"));
    const questions = Buffer.concat(Array.from({ length: 500 }, () => framed(writeQuestion({ name }))));
    const ask = (): void => {
      while (socket.writable && socket.write(questions));
    };
    socket.on("drain", ask).pause();
    ask();
    await closeOf(socket);
    expect(await clientOf("127.0.0.1").resolve4("a.test")).toEqual([FIRST]);
  });

  test("600 clients that say nothing do not keep out one that asks", async () => {
    await listen(60_000);
    const silent = await Promise.all(Array.from({ length: 600 }, async () => (await openStream()).socket));
    const { socket, read } = await openStream();
    socket.write(framed(writeQuestion({ id: 5 })));
    expect((await read(1)).map((answer) => readAnswer(answer).id)).toEqual([5]);
    const closed = silent.filter((peer) => peer.resume());
    await expect.poll(() => closed.filter((peer) => peer.closed).length, { timeout: 10_000 }).toBe(345);
    socket.write(framed(writeQuestion({ id: 6 })));
    expect((await read(1)).map((answer) => readAnswer(answer).id)).toEqual([6]);
  });
});

describe("listeners", () => {
  test("go with all their sockets, so that the next ones take the same port", async () => {
    for (let round = 0; round < 3; round += 1) {
      const listeners = await openDnsListeners({ addresses: PLACES, port, resolver, log });
      const { socket } = await openStream();
      expect(await clientOf("::1").resolve4("a.test")).toEqual([FIRST]);
      socket.resume();
      await listeners[Symbol.asyncDispose]();
      await closeOf(socket);
      const refused = connect(port, "127.0.0.1");
      const [error]: unknown[] = await once(refused, "error");
      expect(error).toMatchObject({ code: "ECONNREFUSED" });
    }
  });

  test("leave out an address that the machine does not have, and say so", async () => {
    const addresses = ["127.0.0.1", "2001:db8::53"];
    bed.use(await openDnsListeners({ addresses, port, resolver, log }));
    expect(await clientOf("127.0.0.1").resolve4("a.test")).toEqual([FIRST]);
    expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([
      {
        level: "warn",
        message: "the resolver does not listen",
        address: "2001:db8::53",
        reason: "EADDRNOTAVAIL",
      },
      {
        level: "warn",
        message: "the resolver does not listen",
        address: "2001:db8::53",
        reason: "EADDRNOTAVAIL",
      },
    ]);
  });

  test("that find a port taken open nothing", async () => {
    const holder = createServer().listen(port, "::1");
    await once(holder, "listening");
    bed.defer(() => void holder.close());
    await expect(openDnsListeners({ addresses: PLACES, port, resolver, log })).rejects.toMatchObject({
      code: "EADDRINUSE",
    });
    const socket = await openDatagrams();
    const other = createSocket("udp4").bind(port, "127.0.0.1");
    await once(other, "listening");
    other.close();
    socket.send(encode({ type: "query", questions: [{ name: "a.test", type: "A" }] }), port, "127.0.0.1");
    const again = createServer().listen(port, "127.0.0.1");
    await once(again, "listening");
    again.close();
  });
});
