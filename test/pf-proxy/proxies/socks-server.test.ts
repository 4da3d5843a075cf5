import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { promisify } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { RefusalReason } from "../../../pf-proxy/proxies/proxy-request.ts";
import { readSocksRequest } from "../../../pf-proxy/proxies/socks-server.ts";
import { ask, countListeners, ProxyBed, readRest } from "./proxy-bed.ts";

const GREETING = Buffer.of(5, 1, 0);
const CHOSEN = "0500";
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const reply = (code: number): string => `05${code.toString(16).padStart(2, "0")}0001${"00".repeat(6)}`;

function toName(name: string | Buffer, port = 443): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([Buffer.of(5, 1, 0, 3, bytes.length), bytes, Buffer.of(port >> 8, port & 0xff)]);
}

const toAddress = (type: number, address: string, port = 80): Buffer =>
  Buffer.concat([Buffer.of(5, 1, 0, type), hex(address), Buffer.of(port >> 8, port & 0xff)]);

async function askAfterGreeting(request: Buffer): Promise<readonly [string, string]> {
  const { outcome, answer } = await ask(readSocksRequest, Buffer.concat([GREETING, request]));
  return [outcome, answer.toString("hex")];
}

describe("a request", () => {
  test.each<readonly [string, Buffer]>([
    ["api.example.com:443", toName("API.example.com.")],
    ["192.0.2.1:80", toAddress(1, "c0000201")],
    ["[2001:db8::1]:80", toAddress(4, "20010db8000000000000000000000001")],
    ["192.0.2.1:80", toAddress(4, "00000000000000000000ffffc0000201")],
    ["192.0.2.1:443", toName("192.0.2.1")],
    ["[::1]:443", toName("::1")],
  ])("for %s is read, and refused as the rules do not allow it", async (target, request) => {
    expect(await askAfterGreeting(request)).toEqual([target, CHOSEN + reply(2)]);
  });

  test("is accepted, and what the client said already stays in the stream, however it came", async () => {
    const rest = Buffer.from([22, 3, 1]);
    const whole = Buffer.concat([Buffer.of(5, 3, 2, 1, 0), toName("a.test"), rest]);
    for (let at = 1; at < whole.length; at += 1)
      expect(await readRest(readSocksRequest, [whole.subarray(0, at), whole.subarray(at)])).toEqual(rest);
  });

  test.each<readonly [RefusalReason, number]>([
    ["no_rule", 2],
    ["denied", 2],
    ["forbidden", 2],
    ["limit", 2],
    ["notResolved", 4],
    ["unreachable", 4],
    ["refused", 5],
    ["busy", 1],
  ])("refused for %s is answered with %d", async (reason, code) => {
    await using bed = await ProxyBed.open();
    bed.client.write(Buffer.concat([GREETING, toName("a.test")]));
    const answer = bed.readAnswer();
    (await readSocksRequest(bed.server, AbortSignal.timeout(20_000))).refuse(reason);
    expect((await answer).toString("hex")).toBe(CHOSEN + reply(code));
  });

  test("leaves the stream with the listeners that it had before", async () => {
    await using bed = await ProxyBed.open();
    const before = countListeners(bed.server);
    bed.client.write(Buffer.concat([GREETING, toName("a.test"), Buffer.from("rest")]));
    const request = await readSocksRequest(bed.server, AbortSignal.timeout(20_000));
    await new Promise((resolve) => setImmediate(resolve));
    expect(countListeners(bed.server)).toEqual(before);
    request.accept();
    expect(String(bed.server.read())).toBe("rest");
  });

  test("is understood as curl sends it, with names and with addresses", async ({ skip }) => {
    const run = promisify(execFile);
    await run("curl", ["--version"]).catch(() => skip("no curl on this machine"));
    const asked: string[] = [];
    const serve = async (socket: Socket): Promise<void> => {
      const request = await readSocksRequest(socket, AbortSignal.timeout(20_000));
      asked.push(`${request.target.kind} ${request.target.host}`);
      request.accept();
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    };
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      socket.on("error", () => undefined);
      void serve(socket);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const proxy = `socks5h://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
    for (const url of ["http://api.example.com/", "http://192.0.2.7/", "http://[2001:db8::7]/"])
      expect((await run("curl", ["-s", "--proxy", proxy, url])).stdout).toBe("ok");
    expect(asked).toEqual(["name api.example.com", "address 192.0.2.7", "address 2001:db8::7"]);
    server.close();
  });
});

describe("what is no request", () => {
  test.each<readonly [string, Buffer, string]>([
    ["SOCKS4", hex("04 01 0050 c0000201 00"), "005b000000000000"],
    ["SOCKS4a", Buffer.concat([hex("04 01 0050 00000001 00"), Buffer.from("a.test\0")]), "005b000000000000"],
    ["HTTP", Buffer.from("CONNECT a.test:443 HTTP/1.1\r\n\r\n"), "05ff"],
    ["TLS", hex("160301"), "05ff"],
    ["no method", hex("0500"), "05ff"],
    ["only a password", hex("050102"), "05ff"],
    ["only methods that nobody knows", hex("0503807fff"), "05ff"],
  ])("%s ends with its refusal", async (_title, bytes, answer) => {
    const result = await ask(readSocksRequest, bytes);
    expect([result.outcome, result.answer.toString("hex")]).toEqual(["E_EGRESS_PROXY", answer]);
  });

  test.each<readonly [string, Buffer, number]>([
    ["BIND", hex("05 02 00 01 c0000201 0050"), 7],
    ["UDP", hex("05 03 00 01 c0000201 0050"), 7],
    ["command 0", hex("05 00 00 01 c0000201 0050"), 7],
    ["another type of address", hex("05 01 00 02 c0000201 0050"), 8],
    ["another version", hex("04 01 00 01 c0000201 0050"), 1],
    ["a reserved byte that is not 0", hex("05 01 01 01 c0000201 0050"), 1],
    ["port 0", toAddress(1, "c0000201", 0), 2],
  ])("%s is answered with a reply", async (_title, request, code) => {
    expect(await askAfterGreeting(request)).toEqual(["E_EGRESS_PROXY", CHOSEN + reply(code)]);
  });

  test.each<readonly [string, string | Buffer]>([
    ["empty", ""],
    ["with a NUL before an allowed ending", "evil\0.allowed.com"],
    ["with a NUL at the end", "api.example.com\0"],
    ["with %00", "evil%00.allowed.com"],
    ["with a line end", "a.test\r\n"],
    ["with a blank", "a test"],
    ["with a port", "a.test:80"],
    ["with a user", "user@a.test"],
    ["in brackets", "[::1]"],
    ["with a zone", "fe80::1%eth0"],
    ["of an octal address", "0177.0.0.1"],
    ["of a short address", "127.1"],
    ["of a number", "2130706433"],
    ["of a hexadecimal number", "0x7f000001"],
    ["with an empty label", "a..test"],
    ["in UTF-8", "b\u00fccher.test"],
    ["in Latin-1", Buffer.from("b\xfccher.test", "latin1")],
    ["of 255 bytes", "a".repeat(255)],
  ])("a name %s is none, and nothing is repaired", async (_title, name) => {
    expect(await askAfterGreeting(toName(name))).toEqual(["E_EGRESS_NAME", CHOSEN + reply(2)]);
  });

  test("half a request is given up when the client ends, or the signal says so", async () => {
    const whole = Buffer.concat([GREETING, toName("a.test")]);
    for (let at = 0; at < whole.length; at += 1) {
      await using bed = await ProxyBed.open();
      bed.client.end(whole.subarray(0, at));
      await expect(readSocksRequest(bed.server, AbortSignal.timeout(20_000))).rejects.toMatchObject({
        code: "E_EGRESS_PROXY",
      });
    }
    await using bed = await ProxyBed.open();
    bed.client.write(GREETING);
    const stop = new AbortController();
    const reading = readSocksRequest(bed.server, stop.signal);
    await once(bed.client, "data");
    stop.abort(new DOMException("late", "TimeoutError"));
    await expect(reading).rejects.toMatchObject({ code: "E_DEADLINE" });
  });

  test("any bytes are read or refused with a code", async () => {
    const bytes = fc.uint8Array({ maxLength: 40 }).map((one) => Buffer.from(one));
    const request = fc.oneof(
      bytes,
      bytes.map((tail) => Buffer.concat([GREETING, Buffer.of(5, 1, 0), tail])),
    );
    await fc.assert(
      fc.asyncProperty(request, async (sent) => {
        await using bed = await ProxyBed.open();
        bed.client.resume().end(sent);
        await readSocksRequest(bed.server, AbortSignal.timeout(20_000)).catch((error: unknown) => {
          expect(error).toMatchObject({ code: expect.stringMatching(/^E_EGRESS_(PROXY|NAME)$/) });
        });
      }),
      { numRuns: 200 },
    );
  });
});
