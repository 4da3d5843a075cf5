import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { assertSane, inspectAll } from "../../../scripts/egress-fuzz/inspector-run.ts";
import { ADDRESS, bytesOf, NAME, open, refusalOf, splitAll } from "./inspect.ts";

const HOST = `Host: ${NAME.host}`;
const GET = bytesOf("GET / HTTP/1.1", HOST, "", "");
const EVIL = bytesOf("GET / HTTP/1.1", "Host: evil.example.com", "", "");
const get = (...fields: readonly string[]): Buffer => bytesOf("GET / HTTP/1.1", HOST, ...fields, "", "");
const post = (field: string, body: string): Buffer => bytesOf("POST / HTTP/1.1", HOST, field, "", body);
const chunked = (body: string): Buffer => post("Transfer-Encoding: chunked", body);
const join = (...parts: readonly Buffer[]): Buffer => Buffer.concat(parts);

describe("requests for the host that was dialled pass", () => {
  test.each<readonly [string, Buffer]>([
    ["a plain one", GET],
    ["with the port", bytesOf("GET / HTTP/1.1", `${HOST}:80`, "", "")],
    ["in other letters, with the final dot", bytesOf("GET / HTTP/1.1", "hOsT:API.Example.com.", "", "")],
    ["HTTP/1.0 with a Host", bytesOf("GET / HTTP/1.0", HOST, "", "")],
    ["HTTP/1.0 without one", bytesOf("GET / HTTP/1.0", "Accept: x", "", "")],
    ["a URL of the same host", bytesOf("GET http://api.example.com:80/a?b HTTP/1.1", HOST, "", "")],
    ["OPTIONS for the server", bytesOf("OPTIONS * HTTP/1.1", HOST, "", "")],
    ["with a body", post("Content-Length: 5", "hello")],
    ["with an empty body", post("Content-Length: 0", "")],
    ["with a chunked body", chunked("5\r\nhello\r\n0\r\n\r\n")],
    [
      "with extensions and trailers",
      chunked('a;x="y z"\r\n0123456789\r\n00;q\r\nX-Sum: 1\r\nX-More:\r\n\r\n'),
    ],
    ["with fields of Latin-1 and empty ones", get("X-Name: \xe4\xf6", "X-Empty:", "X-Tab:\ta\t")],
    ["that ask whether to go on", post("Expect: 100-Continue\r\nContent-Length: 2", "ok")],
    ["one after the other", join(GET, post("Content-Length: 3", "abc"), chunked("1\r\nx\r\n0\r\n\r\n"), GET)],
    ["with a body that looks like a request", join(post(`Content-Length: ${EVIL.length}`, ""), EVIL, GET)],
    ["200 fields and almost 32 KiB", get(...Array.from({ length: 199 }, () => `X: ${"y".repeat(155)}`))],
  ])("%s", (_title, bytes) => {
    expect(refusalOf(bytes)).toBeUndefined();
  });

  test("a head is split at every position, and passes when it is whole", () => {
    const bytes = join(get("Accept: */*"), chunked("3\r\nabc\r\n0\r\n\r\n"), GET);
    for (let at = 1; at < bytes.length; at += 1)
      expect(inspectAll(open("optional"), [bytes.subarray(0, at), bytes.subarray(at)])).toEqual({
        passed: bytes,
        refusal: undefined,
      });
  });

  test("nothing that a server could act on passes before the head is whole", () => {
    const inspector = open("optional");
    const early = splitAll(GET.subarray(0, -1)).flatMap((byte) => [...inspector.push(byte)]);
    expect(Buffer.concat(early).toString()).toBe("GET / HTTP/");
    expect(Buffer.concat([...inspector.push(Buffer.from("\n"))])).toEqual(GET.subarray("GET / HTTP/".length));
  });

  test("a body passes as it comes, in the very same memory", () => {
    const inspector = open("optional");
    inspector.push(post("Content-Length: 1000000", ""));
    const chunk = Buffer.alloc(1000, "x");
    const [passed] = inspector.push(chunk);
    expect([passed?.buffer, passed?.byteOffset, passed?.length]).toEqual([
      chunk.buffer,
      chunk.byteOffset,
      1000,
    ]);
  });

  test("who dials an address says any Host, and is followed all the same", () => {
    expect(refusalOf(EVIL, "optional", ADDRESS)).toBeUndefined();
    expect(
      refusalOf(bytesOf("GET http://x:99/ HTTP/1.1", "Host: :", "", ""), "optional", ADDRESS),
    ).toBeUndefined();
    expect(refusalOf(join(EVIL, bytesOf("GET /", "")), "optional", ADDRESS)).toMatch(/middle of a request/);
  });
});

describe("another host is refused", () => {
  test.each([
    "evil.example.com",
    "example.com",
    "",
    "api.example.com:8080",
    "api.example.com:",
    "api.example.com:080",
    "api.example.com:80:80",
    "api.example.com:99999",
    "api.example.com, evil.example.com",
    "api.example.com evil.example.com",
    "user@api.example.com",
    "api.example.com@evil.example.com",
    "api.example.com/evil",
    "api.example.com#@evil.example.com",
    "api.example.com\\@evil.example.com",
    "api.example.com%00.evil.example.com",
    "api.example.com..",
    "api.example.com\xa0",
    "xn--api.example.com",
    "192.0.2.1",
    "[::1]",
    "[api.example.com]",
  ])("in Host: %j", (host) => {
    expect(refusalOf(bytesOf("GET / HTTP/1.1", `Host: ${host}`, "", ""))).toMatch("its Host is");
  });

  test.each([
    "http://evil.example.com/",
    "HTTP://evil.example.com",
    "https://api.example.com:443/",
    "http://user@api.example.com/",
    "http://api.example.com@evil.example.com/",
    "http://evil.example.com?api.example.com",
    "http://evil.example.com#api.example.com",
    "http:///api.example.com",
    "http://",
    "ftp://api.example.com/",
    "api.example.com:80",
    "api.example.com",
    "*",
    "?a",
  ])("in the request target %s", (path) => {
    expect(refusalOf(bytesOf(`GET ${path} HTTP/1.1`, HOST, "", ""))).toMatch("request target");
  });

  test("in the second request, and in one behind a body", () => {
    expect(refusalOf(join(GET, EVIL))).toMatch("evil");
    expect(refusalOf(join(post("Content-Length: 3", "abc"), EVIL))).toMatch("evil");
    expect(refusalOf(join(chunked("3\r\nabc\r\n0\r\n\r\n"), EVIL))).toMatch("evil");
    expect(refusalOf(join(bytesOf("GET / HTTP/1.0", "Connection: keep-alive", "", ""), EVIL))).toMatch(
      "evil",
    );
  });

  test("with its first request let pass, where that came alone", () => {
    const inspector = open("optional");
    expect(inspector.push(GET)).toEqual([GET]);
    expect(() => inspector.push(EVIL)).toThrow(expect.objectContaining({ code: "E_EGRESS_INSPECTION" }));
  });
});

describe("what servers read differently is refused", () => {
  // Well-formed if it were read in chunks: only the doubt about that is refused.
  const empty = "0\r\n\r\n";
  test.each<readonly [string, Buffer]>([
    ["no Host", bytesOf("GET / HTTP/1.1", "Accept: x", "", "")],
    ["no field at all", bytesOf("GET / HTTP/1.1", "", "")],
    ["two Hosts", get(HOST)],
    ["two Hosts, one for another", get("host: evil.example.com")],
    ["a Host on a folded line", bytesOf("GET / HTTP/1.1", "X: a", ` ${HOST}`, "", "")],
    ["a folded Host", bytesOf("GET / HTTP/1.1", "Host:", " evil.example.com", "", "")],
    ["a blank before the colon", bytesOf("GET / HTTP/1.1", `Host : ${NAME.host}`, "", "")],
    ["a blank before the first field", bytesOf("GET / HTTP/1.1", " X: y", HOST, "", "")],
    ["a field without a colon", get("Evil")],
    ["a field without a name", get(": x")],
    ["a NUL in a field", get("X: a\0b")],
    ["a NUL in a name", get("X\0: b")],
    ["a control in a field", get("X: a\x0bb")],
    ["a CR in a field", get("X: a\rHost: evil.example.com")],
    ["a bare LF in a field", get("X: a\nHost: evil.example.com")],
    ["LF alone at every end", Buffer.from(`GET / HTTP/1.1\n${HOST}\n\n`)],
    ["CR alone at every end", Buffer.from(`GET / HTTP/1.1\r${HOST}\r\r`)],
    ["an empty line first", join(bytesOf("", ""), GET)],
    ["a blank first", join(bytesOf(" "), GET)],
    ["an empty line between requests", join(GET, bytesOf("", ""), GET)],
    ["two spaces", bytesOf("GET  / HTTP/1.1", HOST, "", "")],
    ["a tab", bytesOf("GET\t/ HTTP/1.1", HOST, "", "")],
    ["blanks of Latin-1", bytesOf("GET\xa0/\x85HTTP/1.1", "Host: evil.example.com", "", "")],
    ["a blank at the end", bytesOf("GET / HTTP/1.1 ", HOST, "", "")],
    ["a blank in the path", bytesOf("GET /a b HTTP/1.1", HOST, "", "")],
    ["HTTP/1.2", bytesOf("GET / HTTP/1.2", HOST, "", "")],
    ["HTTP/2 in letters", bytesOf("GET / HTTP/2", HOST, "", "")],
    ["http/1.1", bytesOf("GET / http/1.1", HOST, "", "")],
    ["HTTP/0.9 for a URL", bytesOf("GET http://evil.example.com/", "")],
    ["SOURCE of ICE", bytesOf("SOURCE / ICE/1.0", "Host: evil.example.com", "", "")],
    ["a method of 33 letters", bytesOf(`${"M".repeat(33)} / HTTP/1.1`, HOST, "", "")],
    ["CONNECT", bytesOf("CONNECT api.example.com:80 HTTP/1.1", HOST, "", "")],
    ["connect", bytesOf("connect / HTTP/1.1", HOST, "", "")],
    ["a length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked", empty)],
    ["chunks and a length", post("Transfer-Encoding: chunked\r\nContent-Length: 5", empty)],
    ["two lengths", post("Content-Length: 5\r\nContent-Length: 6", "hello!")],
    ["the same length twice", post("Content-Length: 5\r\nContent-Length: 5", "hello")],
    ["a list of lengths", post("Content-Length: 5, 5", "hello")],
    ["a signed length", post("Content-Length: +5", "hello")],
    ["a negative length", post("Content-Length: -5", "hello")],
    ["a hexadecimal length", post("Content-Length: 0x5", "hello")],
    ["an empty length", post("Content-Length:", "hello")],
    ["a length of 16 digits", post("Content-Length: 9007199254740993", "hello")],
    ["a length in words", post("Content-Length: five", "hello")],
    ["chunked twice", post("Transfer-Encoding: chunked, chunked", empty)],
    ["chunked in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", empty)],
    ["chunked not at the end", post("Transfer-Encoding: chunked, gzip", empty)],
    ["identity", post("Transfer-Encoding: identity", empty)],
    ["almost chunked", post("Transfer-Encoding: xchunked", empty)],
    ["chunked with a byte of Latin-1", post("Transfer-Encoding: chunked\xa0", empty)],
    ["chunked with a vertical tab", post("Transfer-Encoding:\x0bchunked", empty)],
    ["chunked in HTTP/1.0", bytesOf("POST / HTTP/1.0", HOST, "Transfer-Encoding: chunked", "", empty)],
    ["another expectation", post("Expect: 200-ok\r\nContent-Length: 2", "ok")],
    ["two expectations", post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 2", "ok")],
    ["an expectation with something before it", post("Expect: y 100-continue\r\nContent-Length: 2", "ok")],
    ["201 fields", get(...Array.from({ length: 200 }, () => "X: y"))],
    ["a head over 32 KiB", get(...Array.from({ length: 40 }, () => `X: ${"y".repeat(900)}`))],
    ["a path over 16 KiB", join(GET, bytesOf(`GET /${"x".repeat(16_385)} HTTP/1.1`, HOST, "", ""))],
    ["a first line over 8 KiB", bytesOf(`GET /${"x".repeat(8192)} HTTP/1.1`, HOST, "", "")],
    ["a method over 8 KiB", bytesOf(`${"X".repeat(9000)} / HTTP/1.1`, "Host: evil.example.com", "", "")],
  ])("%s", (_title, bytes) => {
    expect(refusalOf(bytes)).toBeDefined();
  });

  test.each<readonly [string, string]>([
    ["no size", "\r\nhello\r\n0\r\n\r\n"],
    ["a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"],
    ["a signed size", "+5\r\nhello\r\n0\r\n\r\n"],
    ["a negative size", "-5\r\nhello\r\n0\r\n\r\n"],
    ["a size of nine digits", "000000005\r\nhello\r\n0\r\n\r\n"],
    ["a size that is rounded", "10000000000000005\r\nhello\r\n0\r\n\r\n"],
    ["a blank before the size", " 5\r\nhello\r\n0\r\n\r\n"],
    ["a blank after the size", "5 \r\nhello\r\n0\r\n\r\n"],
    ["LF alone after the size", "5\nhello\r\n0\r\n\r\n"],
    ["LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"],
    ["CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"],
    ["NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"],
    ["an extension over 256 bytes", `5;${"a".repeat(257)}\r\nhello\r\n0\r\n\r\n`],
    ["a size line without end", "5;".padEnd(600, "a")],
    ["a chunk that is longer than it says", "4\r\nhello\r\n0\r\n\r\n"],
    ["a chunk that is shorter than it says", "6\r\nhello\r\n0\r\n\r\n"],
    ["LF alone after a chunk", "5\r\nhello\n0\r\n\r\n"],
    ["two other bytes after a chunk", "5\r\nhelloXX0\r\n\r\n"],
    ["LF alone at the end", "0\r\n\n"],
    ["a folded trailer", "0\r\nX: a\r\n b\r\n\r\n"],
    ["a trailer without a colon", "0\r\nevil\r\n\r\n"],
    ["a Host as a trailer", "0\r\nHost: evil.example.com\r\n\r\n"],
    ["a Content-Length as a trailer", "0\r\nContent-Length: 5\r\n\r\n"],
    ["a NUL in a trailer", "0\r\nX: \0\r\n\r\n"],
    ["65 trailers", `0\r\n${"X: y\r\n".repeat(65)}\r\n`],
    ["a trailer over 8 KiB", `0\r\nX: ${"y".repeat(9000)}\r\n\r\n`],
  ])("in chunks, %s", (_title, body) => {
    expect(refusalOf(chunked(body))).toBeDefined();
    expect(refusalOf(chunked(`1\r\nx\r\n${body}`))).toBeDefined();
  });

  test("a request that is cut off in its head or in a line of chunks, and a body that is cut off is not", () => {
    expect(refusalOf(GET.subarray(0, -2))).toMatch("middle");
    expect(refusalOf(chunked("5\r\nhel"))).toBeUndefined();
    expect(refusalOf(chunked("5\r\nhello\r\n0"))).toMatch("middle");
    expect(refusalOf(post("Content-Length: 5", "he"))).toBeUndefined();
  });

  test.each([
    ["LF alone after the request line", "GET / HTTP/1.1\n"],
    ["LF alone after a field", `GET / HTTP/1.1\r\n${HOST}\n`],
    ["LF alone after the size of a chunk", `${chunked("").toString()}5\n`],
    ["an empty line before a request", `${GET.toString()}\r`],
  ])("%s, as soon as it is there", (_title, text) => {
    expect(() => open("optional").push(bytesOf(text))).toThrow(/end with CR LF|empty line/);
  });

  test("HTTP/2 without TLS, by its preface", () => {
    expect(refusalOf(bytesOf("PRI * HTTP/2.0", "", "SM", "", ""))).toMatch("HTTP/2 without TLS");
    expect(refusalOf(join(GET, bytesOf("PRI * HTTP/2.0", "", "SM", "", "")))).toMatch("strict");
  });
});

describe("an upgrade", () => {
  const ask = get("Connection: Upgrade", "Upgrade: websocket");
  const frames = Buffer.from([0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const granted = bytesOf("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "", "");

  test("lets all pass once the server has granted it, wherever its answer is split", () => {
    for (let at = 0; at < granted.length; at += 1) {
      const inspector = open("optional");
      expect(inspector.push(ask)).toEqual([ask]);
      expect(inspector.push(frames)).toEqual([]);
      const answer = [granted.subarray(0, at), granted.subarray(at)];
      expect(Buffer.concat(answer.flatMap((chunk) => [...inspector.fromServer(chunk)]))).toEqual(frames);
      const chunk = Buffer.concat([EVIL, frames]);
      expect(inspector.push(chunk)[0]).toBe(chunk);
      expect(inspector.end()).toEqual([]);
    }
  });

  test.each<readonly [string, string, boolean]>([
    ["100, then 101", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 S\r\n\r\n", true],
    ["103 with fields, then 101", "HTTP/1.1 103 E\r\nlink: HTTP/1.1 200\r\n\r\nHTTP/1.1 101\r\n", true],
    ["100, then 200", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false],
    ["200", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 S\r\n\r\n", false],
    ["426 with 101 in a field", "HTTP/1.1 426 U\r\nX: HTTP/1.1 101\r\n\r\n", false],
    ["101 of HTTP/2", "HTTP/2 101 S\r\n\r\n", false],
    ["1010", "HTTP/1.1 1010\r\n\r\n", false],
    ["something else", "101 Switching\r\n\r\n", false],
    ["100 without end", `HTTP/1.1 100 C\r\nX: ${"y".repeat(20_000)}`, false],
  ])("that is answered with %s", (_title, answer, isGranted) => {
    for (const chunks of [[Buffer.from(answer)], splitAll(Buffer.from(answer))]) {
      expect(inspectAll(open("optional"), [ask, frames], chunks).refusal === undefined).toBe(isGranted);
      expect(inspectAll(open("optional"), [ask, EVIL], chunks).refusal === undefined).toBe(isGranted);
      expect(inspectAll(open("optional"), [ask, GET], chunks).passed).toEqual(join(ask, GET));
    }
  });

  test("that is not answered lets nothing pass, not even when the client ends", () => {
    expect(inspectAll(open("optional"), [ask, EVIL]).refusal).toMatch("middle");
    expect(inspectAll(open("optional"), [ask, EVIL]).passed).toEqual(ask);
    expect(inspectAll(open("optional"), [ask])).toEqual({ passed: ask, refusal: undefined });
  });

  test("that is not answered withholds 16 KiB and not a byte more", () => {
    expect(open("optional").push(join(ask, Buffer.alloc(16_384, 1)))).toEqual([ask]);
    expect(() => open("optional").push(join(ask, Buffer.alloc(16_385, 1)))).toThrow("too much");
  });

  test("is for the first request, and without a body", () => {
    expect(refusalOf(join(GET, ask))).toMatch("first request");
    expect(refusalOf(post("Upgrade: websocket\r\nContent-Length: 2", "ok"))).toMatch("without a body");
    const inspector = open("optional");
    inspector.push(ask);
    inspector.fromServer(Buffer.from("HTTP/1.1 401 No\r\n\r\n"));
    expect(inspector.push(GET)).toEqual([GET]);
    expect(() => inspector.push(ask)).toThrow("first request");
  });

  test("to HTTP/2 is passed over, and what a granted one would need is refused", () => {
    const h2c = get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x");
    expect(refusalOf(join(h2c, h2c, GET))).toBeUndefined();
    const inspector = open("optional");
    inspector.push(h2c);
    inspector.fromServer(granted);
    expect(() => inspector.push(bytesOf("PRI * HTTP/2.0", "", "SM", "", ""))).toThrow("strict");
    expect(refusalOf(get("Upgrade: h2c, websocket"))).toMatch("or something else");
    expect(refusalOf(get("Upgrade: websocket", "Upgrade: h2c"))).toMatch("or something else");
  });
});

describe("what is no HTTP passes unread", () => {
  test.each<readonly [string, Buffer]>([
    ["nothing at all", Buffer.alloc(0)],
    ["PostgreSQL", Buffer.from("0000000804d2162f", "hex")],
    ["Redis", bytesOf("*1", "$4", "PING", "")],
    ["Redis in one line", bytesOf("GET key", "SET url http://x/ HTTP/1.1", "")],
    ["SSH", bytesOf("SSH-2.0-OpenSSH_9.2 HTTP", "")],
    ["SMTP", bytesOf("EHLO evil.example.com", "MAIL FROM:<a@b>", "")],
    ["HTTP/0.9 without a name", bytesOf("GET /", "")],
    ["SIP", bytesOf("INVITE sip:a@b SIP/2.0", "")],
    ["a word", Buffer.from("hello")],
    ["a word and a blank", Buffer.from("hello ")],
    ["a lot without a line end", Buffer.alloc(2_000_000, "x")],
    ["the type of a TLS record alone", Buffer.of(22)],
    ["another version of TLS records", Buffer.of(22, 2, 9)],
    ["JSON with a request in it", bytesOf('{"a": "', "GET / HTTP/1.1", "")],
  ])("%s", (_title, bytes) => {
    expect(inspectAll(open("optional"), [bytes])).toEqual({ passed: bytes, refusal: undefined });
    if (bytes.length < 10_000) expect(refusalOf(bytes)).toBeUndefined();
  });

  test("a client that says a word and waits for an answer is not kept waiting", () => {
    const inspector = open("optional");
    expect(
      Buffer.concat([...inspector.push(Buffer.from("hel")), ...inspector.push(Buffer.from("lo"))]),
    ).toEqual(Buffer.from("hello"));
    expect(inspector.proven).toBe(true);
  });

  test("chunks pass as the very same buffers once that is known", () => {
    const inspector = open("optional");
    inspector.push(Buffer.of(0));
    const chunk = GET;
    expect(inspector.push(chunk)[0]).toBe(chunk);
  });
});

describe("time and chunks", () => {
  test.each<readonly [string, Buffer]>([
    ["blanks before a version", bytesOf(`GET ${" ".repeat(8000)}`)],
    ["blanks in a line without end", Buffer.alloc(1_000_000, " ")],
    ["blanks in a field", get(`X: ${" ".repeat(16_000)}\x01`)],
    ["blanks between words of a field", get(`X: ${" x".repeat(8000)}`)],
    ["a chunk of one byte after the other", chunked("1\r\nx\r\n".repeat(200_000))],
  ])("%s take as long as their length", (_title, bytes) => {
    // Quadratic patterns would take minutes here, and the test's deadline is one.
    inspectAll(open("optional"), [bytes]);
    inspectAll(open("optional"), splitAll(bytes.subarray(0, 20_000)));
  });

  test("any bytes pass as they are or are refused, in the same way in all chunks", () => {
    const words = [
      "GET ",
      "/",
      " HTTP/1.1",
      "\r\n",
      "\n",
      HOST,
      "Host: evil",
      "\r\n\r\n",
      "5\r\nhello\r\n",
      "0\r\n\r\n",
    ];
    const more = [
      "Content-Length: 5",
      "Transfer-Encoding: chunked",
      "Upgrade: x",
      " ",
      "\0",
      "HTTP/1.1",
      "x",
    ];
    const request = fc.constantFrom(GET, ...[...words, ...more].map((word) => bytesOf(word)));
    const stream = fc.array(request, { maxLength: 20 }).map((parts) => join(...parts));
    const cuts = fc.array(fc.nat(300), { maxLength: 5 });
    const answers = fc
      .constantFrom("", "HTTP/1.1 101 S\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n")
      .map((one) => [bytesOf(one)]);
    fc.assert(
      fc.property(stream, cuts, answers, (bytes, positions, answer) => {
        const edges = [0, ...positions.sort((a, b) => a - b), bytes.length];
        const chunks = edges.slice(1).map((end, index) => bytes.subarray(edges[index], end));
        const whole = inspectAll(open("optional"), [bytes], answer);
        assertSane(bytes, whole, inspectAll(open("optional"), chunks, answer));
        assertSane(bytes, whole, inspectAll(open("optional"), splitAll(bytes), answer));
      }),
      { numRuns: 3000 },
    );
  });
});
