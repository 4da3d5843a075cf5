import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { readConnectRequest } from "../../../pf-proxy/proxies/connect-server.ts";
import type { RefusalReason } from "../../../pf-proxy/proxies/proxy-request.ts";
import { ask, countListeners, ProxyBed, readRest } from "./proxy-bed.ts";

const head = (...lines: readonly string[]): Buffer => Buffer.from([...lines, "", ""].join("\r\n"), "latin1");
const to = (authority: string, ...fields: readonly string[]): Buffer =>
  head(`CONNECT ${authority} HTTP/1.1`, ...fields);
const statusOf = (answer: Buffer): string => answer.toString("latin1").split("\r\n", 1)[0] ?? "";

describe("a CONNECT", () => {
  test.each([
    ["api.example.com:443", "api.example.com:443"],
    ["API.Example.com.:443", "api.example.com:443"],
    ["192.0.2.1:80", "192.0.2.1:80"],
    ["[2001:DB8::0:1]:443", "[2001:db8::1]:443"],
    ["[::ffff:192.0.2.1]:443", "192.0.2.1:443"],
  ])("to %s is for %s, and a refusal says why", async (authority, target) => {
    const { outcome, answer } = await ask(readConnectRequest, to(authority));
    expect(outcome).toBe(target);
    expect(statusOf(answer)).toBe("HTTP/1.1 403 Forbidden");
    expect(answer.toString()).toMatch(/\r\nx-enclave-denied: no_rule\r\n\r\ndenied: no_rule\n$/);
  });

  test("is accepted with 200, and what the client said already stays in the stream", async () => {
    const hello = Buffer.from([22, 3, 1, 0, 5]);
    const whole = Buffer.concat([to("api.example.com:443", "Host: api.example.com:443"), hello]);
    for (let at = 1; at < whole.length; at += 7)
      expect(await readRest(readConnectRequest, [whole.subarray(0, at), whole.subarray(at)])).toEqual(hello);
  });

  test("may have much behind it that nobody reads yet", async () => {
    const much = Buffer.alloc(300_000, "x");
    expect(await readRest(readConnectRequest, [to("a.test:1"), much])).toEqual(much);
    expect(await readRest(readConnectRequest, [Buffer.concat([to("a.test:1"), much])])).toEqual(much);
  });

  test.each<readonly [RefusalReason, number]>([
    ["no_rule", 403],
    ["deny_rule", 403],
    ["forbidden_address", 403],
    ["denied", 403],
    ["forbidden", 403],
    ["not_a_name", 403],
    ["notResolved", 502],
    ["refused", 502],
    ["unreachable", 504],
    ["busy", 503],
    ["limit", 503],
  ])("refused for %s is answered with %d", async (reason, status) => {
    await using bed = await ProxyBed.open();
    bed.client.write(to("a.test:1"));
    const answer = bed.readAnswer();
    (await readConnectRequest(bed.server, AbortSignal.timeout(20_000))).refuse(reason);
    expect((await answer).toString()).toMatch(
      new RegExp(`^HTTP/1.1 ${status} .*x-enclave-denied: ${reason}\r\n`, "s"),
    );
  });

  test("that was accepted is not answered again: refusing it then cuts the connection", async () => {
    await using bed = await ProxyBed.open();
    bed.client.write(to("a.test:1"));
    const answer: Buffer[] = [];
    bed.client.on("data", (chunk: Buffer) => answer.push(chunk));
    const request = await readConnectRequest(bed.server, AbortSignal.timeout(20_000));
    request.accept();
    await once(bed.client, "data");
    request.refuse("refused");
    await Promise.race([once(bed.client, "end"), once(bed.client, "close")]);
    expect(Buffer.concat(answer).toString()).toBe("HTTP/1.1 200 Connection established\r\n\r\n");
  });

  test("is understood as curl sends it", async ({ skip }) => {
    const curl = promisify(execFile);
    await curl("curl", ["--version"]).catch(() => skip("no curl on this machine"));
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      socket.on("error", () => undefined);
      void readConnectRequest(socket, AbortSignal.timeout(20_000)).then((request) =>
        request.refuse("no_rule"),
      );
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" ? address?.port : undefined;
    const args = ["-sv", "--proxy", `http://127.0.0.1:${port}`, "https://api.example.com/"];
    await expect(curl("curl", args)).rejects.toMatchObject({
      stderr: expect.stringContaining("< x-enclave-denied: no_rule"),
    });
    server.close();
  });
});

describe("what is no CONNECT", () => {
  test("is told that plain HTTP needs no proxy, whatever it sends behind", async () => {
    const body = Buffer.alloc(30_000, "x");
    const request = Buffer.concat([
      head("POST http://a.test/ HTTP/1.1", "Host: a.test", "Content-Length: 30000"),
      body,
    ]);
    const { outcome, answer } = await ask(readConnectRequest, request);
    expect(outcome).toBe("E_EGRESS_PROXY");
    expect(statusOf(answer)).toBe("HTTP/1.1 405 Method Not Allowed");
    expect(answer.toString()).toMatch("plain http:// works without a proxy");
  });

  test.each([
    "",
    ":443",
    "a.test",
    "a.test:",
    "a.test:0",
    "a.test:65536",
    "a.test:0443",
    "a.test:443:443",
    "a.test:http",
    "a.test:-1",
    "user@a.test:443",
    "user:pass@a.test:443",
    "http://a.test:443",
    "a.test:443/",
    "a.test:443#x",
    "/",
    "*",
    "::1:443",
    "[::1]",
    "[::1:443",
    "[127.0.0.1]:443",
    "[a.test]:443",
    "[fe80::1%25eth0]:443",
    "a.test:443 b.test:443",
    "a.test\t:443",
    "b\xfccher.test:443",
  ])("an authority such as %j is malformed", async (authority) => {
    const { outcome, answer } = await ask(readConnectRequest, to(authority));
    expect([outcome, statusOf(answer)]).toEqual(["E_EGRESS_PROXY", "HTTP/1.1 400 Bad Request"]);
  });

  test.each([
    "evil%00.a.test:443",
    "a..test:443",
    "127.1:443",
    "0x7f.1:443",
    "2130706433:443",
    "0177.0.0.1:443",
    "-a.test:1",
  ])("%s names no host", async (authority) => {
    const { outcome, answer } = await ask(readConnectRequest, to(authority));
    expect([outcome, statusOf(answer)]).toEqual(["E_EGRESS_NAME", "HTTP/1.1 400 Bad Request"]);
    expect(answer.toString()).toMatch("x-enclave-denied: not_a_name");
  });

  test.each<readonly [string, Buffer]>([
    ["TLS", Buffer.from([22, 3, 1, 2, 0])],
    ["SOCKS5", Buffer.from([5, 1, 0])],
    ["an empty line", Buffer.from("\r\nCONNECT a.test:1 HTTP/1.1\r\n\r\n")],
    ["LF alone", Buffer.from("CONNECT a.test:1 HTTP/1.1\n\n")],
    ["LF in a field", head("CONNECT a.test:1 HTTP/1.1", "X: a\nb")],
    ["CR in a field", head("CONNECT a.test:1 HTTP/1.1", "X: a\rb")],
    ["a NUL", head("CONNECT evil\0.a.test:1 HTTP/1.1")],
    ["a folded field", head("CONNECT a.test:1 HTTP/1.1", "X: a", " b")],
    ["two spaces", head("CONNECT  a.test:1 HTTP/1.1")],
    ["HTTP/2", head("CONNECT a.test:1 HTTP/2.0")],
    ["lower case", head("connect a.test:1 http/1.1")],
    ["another Host", to("a.test:1", "Host: b.test:1")],
    ["another port in Host", to("a.test:1", "Host: a.test:2")],
    ["two Hosts", to("a.test:1", "Host: a.test:1", "Host: a.test:1")],
    ["101 fields", to("a.test:1", ...Array.from({ length: 101 }, () => "X: y"))],
    ["a head over 8 KiB", to("a.test:1", `X: ${"y".repeat(8192)}`)],
    ["a head that never ends", Buffer.from(`CONNECT a.test:1 HTTP/1.1\r\nX: ${"y".repeat(50_000)}`)],
  ])("%s is answered with 400", async (_title, bytes) => {
    const { outcome, answer } = await ask(readConnectRequest, bytes);
    expect([outcome, statusOf(answer)]).toEqual(["E_EGRESS_PROXY", "HTTP/1.1 400 Bad Request"]);
  });

  test("or a method other than in capitals is another method", async () => {
    expect(statusOf((await ask(readConnectRequest, head("connect a.test:1 HTTP/1.1"))).answer)).toMatch(
      "405",
    );
  });
});

describe("the stream", () => {
  test("has the listeners that it had before, and does not flow", async () => {
    await using bed = await ProxyBed.open();
    const before = countListeners(bed.server);
    bed.client.write(Buffer.concat([to("a.test:1"), Buffer.from("rest")]));
    await readConnectRequest(bed.server, AbortSignal.timeout(20_000));
    await new Promise((resolve) => setImmediate(resolve));
    expect(countListeners(bed.server)).toEqual(before);
    expect(bed.server.readableFlowing).not.toBe(true);
    expect(String(bed.server.read())).toBe("rest");
  });

  test("is given up when the signal says so, and when the client leaves", async () => {
    await using bed = await ProxyBed.open();
    bed.client.write("CONNECT a.te");
    const stop = new AbortController();
    const before = countListeners(bed.server);
    const reading = readConnectRequest(bed.server, stop.signal);
    stop.abort(new DOMException("late", "TimeoutError"));
    await expect(reading).rejects.toMatchObject({ code: "E_DEADLINE" });
    await expect(readConnectRequest(bed.server, stop.signal)).rejects.toMatchObject({ code: "E_DEADLINE" });
    expect(countListeners(bed.server)).toEqual(before);
    const again = readConnectRequest(bed.server, AbortSignal.timeout(20_000));
    bed.client.end();
    await expect(again).rejects.toMatchObject({ code: "E_EGRESS_PROXY" });
    bed.server.destroy();
    await expect(readConnectRequest(bed.server, AbortSignal.timeout(20_000))).rejects.toMatchObject({
      code: "E_EGRESS_PROXY",
    });
  });

  test.each([
    ["says nothing more", 0],
    ["says very much more", 200_000],
  ])("is closed soon after a refusal, even if the client %s and never ends", async (_title, more) => {
    await using bed = await ProxyBed.open();
    bed.client.write(to("evil.test:1"));
    (await readConnectRequest(bed.server, AbortSignal.timeout(20_000))).refuse("no_rule");
    bed.client.on("end", () => bed.client.write(Buffer.alloc(more)));
    bed.client.resume();
    await once(bed.server, "close");
  });
});
