/** ClientHellos and requests of HTTP/1, changed and cut, through the inspector in one chunk and in parts. */
import { createInspector } from "../../pf-proxy/inspection/stream-inspector.ts";
import type { EgressTarget } from "../../pf-proxy/policy/egress-policy.ts";
import type { RandomSource } from "../vsock-fuzz/random-source.ts";
import type { FuzzCase } from "./fuzz-target.ts";
import { buildHello, EXTENSION, helloFor, serverNames, wrapRecords } from "./hello-builder.ts";
import { assertSane, inspectAll } from "./inspector-run.ts";
import { mutate, type Mutation, split } from "./mutation.ts";

const TARGETS: readonly [EgressTarget, ...EgressTarget[]] = [
  { kind: "name", host: "api.example.com", port: 443 },
  { kind: "name", host: "api.example.com", port: 80 },
  { kind: "address", host: "192.0.2.1", port: 443 },
];
const text = (value: string): Buffer => Buffer.from(value, "latin1");

const HELLOS: readonly [Buffer, ...Buffer[]] = [
  helloFor("api.example.com"),
  helloFor("evil.example.com"),
  wrapRecords(buildHello({ names: ["API.example.com."] }), { sizes: [1, 2, 3, 50] }),
  wrapRecords(buildHello({ extensions: [[EXTENSION.padding, Buffer.alloc(3000)]] }), { sizes: [700] }),
  wrapRecords(
    buildHello({ names: ["api.example.com"], extensions: [[EXTENSION.encryptedHello, text("x")]] }),
  ),
  Buffer.concat([helloFor("api.example.com"), text("\x17\x03\x03\x00\x01x")]),
];
const HELLO_MUTATION: Mutation = {
  words: [
    serverNames(["api.example.com"]),
    serverNames(["api.example.com", "evil.example.com"]),
    text("\x16\x03\x01\x00\x05"),
    text("\x16\x03\x03\x40\x00"),
    text("\xfe\x0d\x00\x00"),
    text("\x1a\x1a\x00\x00"),
    text("api.example.com\0"),
  ],
  maxBytes: 40_000,
};

const GET = "GET /a?b HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\r\n";
const CHUNKED =
  "POST / HTTP/1.1\r\nHost: api.example.com:80\r\nTransfer-Encoding: chunked\r\n\r\n" +
  "5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
const UPGRADE =
  "GET /chat HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const REQUESTS: readonly [Buffer, ...Buffer[]] = [
  text(GET),
  text(GET + CHUNKED + GET),
  text(CHUNKED),
  text(UPGRADE + GET),
  text(
    "PUT /x HTTP/1.0\r\nHost: API.example.com.\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\nhello world",
  ),
  text("GET http://api.example.com/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"),
  text("\r\nGET / HTTP/1.1\nHost: api.example.com\n\n"),
  text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  text("*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n"),
];
const ANSWERS: readonly [readonly Buffer[], ...(readonly Buffer[])[]] = [
  [],
  [text("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")],
  [text("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n")],
  [text("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r"), text("\nHTTP/1.1 101 S\r\n\r\n")],
  [text("HTTP/1.1 100 Continue\r\n\r\nHTT"), text("P/1.1 404 Not Found\r\n\r\n")],
];
const HTTP_MUTATION: Mutation = {
  words: [
    text("\r\n"),
    text("\n"),
    text("\r"),
    text("\r\n\r\n"),
    text(" "),
    text("\0"),
    text("Host: evil.example.com\r\n"),
    text("Content-Length: 5\r\n"),
    text("Transfer-Encoding: chunked\r\n"),
    text("Upgrade: websocket\r\n"),
    text("Upgrade: h2c\r\n"),
    text("GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"),
    text(GET),
    text("0\r\n\r\n"),
    text("ffffffff\r\n"),
    text("HTTP/1.1"),
    text("http://evil.example.com/"),
  ],
  maxBytes: 100_000,
};

export const runHelloCase: FuzzCase = (random) => {
  const bytes = mutate(random, random.pick(HELLOS), HELLO_MUTATION);
  return compare(random, bytes, { tls: random.isOnce(4) ? "optional" : "required" });
};

export const runHttpCase: FuzzCase = (random) => {
  const bytes = mutate(random, random.pick(REQUESTS), HTTP_MUTATION);
  const answer = random.pick(ANSWERS);
  return compare(random, bytes, { tls: "optional", answer });
};

function compare(
  random: RandomSource,
  bytes: Buffer,
  { tls, answer = [] }: { readonly tls: "required" | "optional"; readonly answer?: readonly Buffer[] },
): string {
  const target = random.pick(TARGETS);
  const whole = inspectAll(createInspector({ tls, target }), [bytes], answer);
  const parts = inspectAll(createInspector({ tls, target }), split(random, bytes), answer);
  assertSane(bytes, whole, parts);
  return whole.refusal === undefined ? "passed" : "refused";
}
