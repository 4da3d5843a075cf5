import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { MAX_HELLO_BYTES } from "../../../pf-proxy/inspection/hello-reader.ts";
import type { EgressTarget } from "../../../pf-proxy/policy/egress-policy.ts";
import {
  buildHello,
  EXTENSION,
  extension,
  helloFor,
  type HelloShape,
  type RecordShape,
  vector,
  wrapRecords,
} from "../../../scripts/egress-fuzz/hello-builder.ts";
import { assertSane, inspectAll } from "../../../scripts/egress-fuzz/inspector-run.ts";
import { ADDRESS, NAME, open, refusalOf, splitAll } from "./inspect.ts";
import { captureNode, captureOpenssl, hasOpenssl } from "./real-hellos.ts";

const HOST = NAME.host;
const TARGET: EgressTarget = { ...NAME, port: 443 };
const refusal = (shape: HelloShape, records?: RecordShape): string | undefined =>
  refusalOf(wrapRecords(buildHello(shape), records), "required", TARGET);

describe("real clients", () => {
  test.each([
    ["TLS 1.3", {}],
    ["TLS 1.2 alone", { maxVersion: "TLSv1.2" }],
    ["with ALPN", { ALPNProtocols: ["h2", "http/1.1"] }],
  ] as const)("Node's is read: %s", async (_title, options) => {
    const hello = await captureNode({ ...options, servername: HOST, rejectUnauthorized: false });
    expect(refusalOf(hello, "required", TARGET)).toBeUndefined();
    expect(refusalOf(hello, "required", { ...TARGET, host: "www.example.com" })).toContain(HOST);
    expect(refusalOf(hello, "optional", { ...TARGET, host: "www.example.com" })).toContain(HOST);
  });

  test("one of Node without a name passes only where a name is not required", async () => {
    const hello = await captureNode({ rejectUnauthorized: false });
    expect(refusalOf(hello, "required", TARGET)).toBe("its ClientHello names nobody");
    expect(refusalOf(hello, "optional", TARGET)).toBeUndefined();
    expect(refusalOf(hello, "required", ADDRESS)).toBeUndefined();
  });

  test("OpenSSL's is read", async ({ skip }) => {
    if (!(await hasOpenssl())) skip("no openssl on this machine");
    for (const version of [["-tls1_2"], ["-tls1_3"], []]) {
      const hello = await captureOpenssl(["-servername", HOST.toUpperCase(), ...version]);
      expect(refusalOf(hello, "required", TARGET)).toBeUndefined();
    }
    expect(refusalOf(await captureOpenssl(["-noservername"]), "required", TARGET)).toMatch("nobody");
  });
});

describe("however it is split", () => {
  const hello = helloFor(HOST);

  test("at every position between two chunks all bytes pass at once, when it is whole", () => {
    const bytes = Buffer.concat([hello, Buffer.from([23, 3, 3, 0, 1, 9])]);
    for (let at = 1; at < bytes.length; at += 1) {
      const inspector = open("required", TARGET);
      const first = inspector.push(bytes.subarray(0, at));
      expect(Buffer.concat([...first])).toEqual(at < hello.length ? Buffer.alloc(0) : bytes.subarray(0, at));
      expect(inspector.proven).toBe(at >= hello.length);
      expect(Buffer.concat([...first, ...inspector.push(bytes.subarray(at))])).toEqual(bytes);
      expect(inspector.proven).toBe(true);
    }
  });

  test("at every position between two records, and into records of one byte, it is the same", () => {
    const message = buildHello({ names: [HOST] });
    for (let at = 1; at <= message.length; at += 1)
      expect(refusal({ names: [HOST] }, { sizes: [at, message.length] })).toBeUndefined();
    expect(refusal({ names: [HOST] }, { sizes: [1] })).toBeUndefined();
    expect(refusal({ names: ["evil.example.com"] }, { sizes: [1] })).toMatch("is for");
  });

  test("what follows it passes as the very same buffer", () => {
    const inspector = open("required", TARGET);
    inspector.push(hello);
    const chunk = Buffer.from("more");
    expect(inspector.push(chunk)[0]).toBe(chunk);
    expect(inspector.end()).toEqual([]);
  });
});

describe("names", () => {
  test.each(["api.example.com", "API.Example.COM", "api.example.com."])("%s is the one dialled", (name) => {
    expect(refusal({ names: [name] })).toBeUndefined();
  });

  test.each([
    "example.com",
    "evil.example.com",
    "api.example.com.evil.org",
    "xapi.example.com",
    "api.example.com..",
    ".api.example.com",
    "api.example.com\0",
    "evil.org\0.api.example.com",
    "api.example.com%00",
    "api.example.com:443",
    "user@api.example.com",
    " api.example.com",
    "*.example.com",
    "192.0.2.1",
    "[::1]",
    "\xe4pi.example.com",
    "",
    "a".repeat(256),
  ])("%j is another", (name) => {
    for (const tls of ["required", "optional"] as const)
      expect(refusalOf(wrapRecords(buildHello({ names: [name] })), tls, TARGET)).toMatch(
        /is for|no host name/,
      );
  });

  test("of an address dialled none is compared, but a ClientHello it must be", () => {
    for (const shape of [
      {},
      { names: ["evil.org"] },
      { extensions: [[EXTENSION.encryptedHello, Buffer.of(0)]] },
    ])
      expect(refusalOf(wrapRecords(buildHello(shape as HelloShape)), "required", ADDRESS)).toBeUndefined();
    expect(refusalOf(Buffer.from("GET / HTTP/1.1\r\n\r\n"), "required", ADDRESS)).toMatch("does not begin");
  });
});

describe("a hostile ClientHello", () => {
  const sni = Buffer.from(HOST);
  const named = { names: [HOST] };

  test.each<readonly [string, HelloShape, RegExp]>([
    ["without a name", {}, /names nobody/],
    ["without extensions", { withoutExtensions: true }, /names nobody/],
    ["with two names", { names: [HOST, "evil.example.com"] }, /more than one/],
    ["with the same name twice", { names: [HOST, HOST] }, /more than one/],
    ["with two server_name extensions", { ...named, copies: 2 }, /twice/],
    [
      "with any extension twice",
      {
        ...named,
        extensions: [
          [9, sni],
          [9, sni],
        ],
      },
      /twice/,
    ],
    ["that is encrypted", { ...named, extensions: [[0xfe0d, Buffer.alloc(100)]] }, /hides/],
    ["that is encrypted as in a draft", { ...named, extensions: [[0xffce, Buffer.alloc(9)]] }, /hides/],
    ["of SSL 3", { ...named, version: 0x0300 }, /version/],
    ["of no known version", { ...named, version: 0x0305 }, /version/],
    ["with a session of 33 bytes", { ...named, sessionBytes: 33 }, /session/],
    ["with an empty server_name", { extensions: [[0, Buffer.alloc(0)]] }, /cut off/],
    ["with an empty list of names", { extensions: [[0, Buffer.of(0, 0)]] }, /cut off/],
    [
      "with a name of another type",
      { extensions: [[0, vector(2, Buffer.concat([Buffer.of(1), vector(2, sni)]))]] },
      /no host name/,
    ],
    [
      "whose list of names is too long",
      {
        extensions: [
          [0, Buffer.concat([vector(2, Buffer.concat([Buffer.of(0), vector(2, sni)])), Buffer.of(0)])],
        ],
      },
      /more than it says/,
    ],
  ])("%s is refused", (_title, shape, reason) => {
    expect(refusal(shape)).toMatch(reason);
  });

  test("bytes after the extensions, and half a cipher suite, are refused", () => {
    const message = buildHello(named);
    const longer = Buffer.concat([message, Buffer.of(0)]);
    longer.writeUIntBE(message.length - 3, 1, 3);
    expect(refusalOf(wrapRecords(longer), "required", TARGET)).toMatch("more than it says");
    const suitesAt = 4 + 2 + 32 + 33;
    const odd = Buffer.concat([
      message.subarray(0, suitesAt + 2),
      Buffer.of(0),
      message.subarray(suitesAt + 2),
    ]);
    odd.writeUIntBE(message.length - 3, 1, 3);
    odd.writeUInt16BE(message.readUInt16BE(suitesAt) + 1, suitesAt);
    expect(refusalOf(wrapRecords(odd), "required", TARGET)).toMatch("half a cipher suite");
  });

  test("GREASE is no harm", () => {
    const grease = [0x0a0a, 0x1a1a, 0xfafa].map((type) => [type, Buffer.of(0)] as const);
    expect(refusal({ ...named, extensions: grease })).toBeUndefined();
  });

  test("one nested in another's extension is not seen", () => {
    const inner = extension(EXTENSION.serverName, vector(2, Buffer.concat([Buffer.of(0), vector(2, sni)])));
    expect(refusal({ extensions: [[EXTENSION.padding, inner]] })).toMatch("names nobody");
  });

  test.each([
    ["SSL 2", "802e0100020015000000100100800300"],
    ["another type of record", "170301000100"],
    ["an alert", "15030100020228"],
    ["a version 2.1", "160201000101"],
    ["a version 3.5", "160305000101"],
    ["an empty record", "1603010000"],
    ["a record of 2^14 + 1 bytes", "1603014001"],
    ["a ServerHello", "1603010004020000"],
    ["a message of 16 MiB", "160301000401ffffff"],
    ["a message that ends within its record", "160301000601000001aabb"],
    ["HTTP", "474554202f20"],
  ])("%s is refused at once", (_title, hex) => {
    expect(() => open("required", TARGET).push(Buffer.from(hex, "hex"))).toThrow(
      expect.objectContaining({ code: "E_EGRESS_INSPECTION" }),
    );
  });

  test("every length that lies is refused or waits for more, whichever byte of it", () => {
    const whole = wrapRecords(buildHello(named));
    const nameAt = whole.indexOf(HOST);
    const lengths = [
      3,
      4,
      6,
      7,
      8,
      43,
      76,
      77,
      88,
      nameAt - 11,
      nameAt - 5,
      nameAt - 4,
      nameAt - 2,
      nameAt - 1,
    ];
    for (const at of lengths)
      for (let value = 0; value < 256; value += 1) {
        const lie = Buffer.from(whole);
        lie[at] = value;
        const { refusal: why } = inspectAll(open("required", TARGET), [lie]);
        expect(why === undefined, `byte ${at} as ${value}`).toBe(lie.equals(whole));
      }
  });

  test("16 KiB with everything before its end pass, a byte more does not", () => {
    const padded = (bytes: number): HelloShape => ({
      ...named,
      extensions: [[EXTENSION.padding, Buffer.alloc(bytes)]],
    });
    const room = MAX_HELLO_BYTES - wrapRecords(buildHello(padded(0))).length;
    expect(refusal(padded(room))).toBeUndefined();
    expect(refusal(padded(room + 1))).toMatch("16384");
    expect(refusal(padded(room), { sizes: [8000] })).toMatch("16384");
  });

  test("one that never ends is refused, and one that stops is, when the client ends", () => {
    const inspector = open("required", TARGET);
    const endless = splitAll(
      wrapRecords(buildHello({ extensions: [[21, Buffer.alloc(16_000)]] }), { sizes: [1] }),
    );
    expect(inspectAll(inspector, endless).refusal).toMatch("16384");
    const cut = helloFor(HOST).subarray(0, -1);
    for (const tls of ["required", "optional"] as const) expect(refusalOf(cut, tls, TARGET)).toMatch("whole");
  });
});

describe("any bytes", () => {
  test("pass as they are or are refused, in the same way in all chunks", () => {
    const seeds = [helloFor(HOST), wrapRecords(buildHello({ names: [HOST] }), { sizes: [1, 2, 60] })];
    const changed = fc
      .tuple(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        fc.uint8Array(),
      )
      .map(([seed, changes, tail]) => {
        const bytes = Buffer.concat([seed, tail]);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes;
      });
    const anything = fc.oneof(
      changed,
      fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)),
    );
    const mode = fc.constantFrom("required" as const, "optional" as const, "off" as const);
    fc.assert(
      fc.property(anything, mode, fc.nat(400), (bytes, tls, at) => {
        const whole = inspectAll(open(tls, TARGET), [bytes]);
        assertSane(bytes, whole, inspectAll(open(tls, TARGET), [bytes.subarray(0, at), bytes.subarray(at)]));
        assertSane(bytes, whole, inspectAll(open(tls, TARGET), splitAll(bytes)));
        return tls !== "off" || whole.refusal === undefined;
      }),
      { numRuns: 2000 },
    );
  });
});
