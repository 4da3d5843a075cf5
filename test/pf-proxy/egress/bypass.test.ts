/**
 * Tricks by which a program talks to somebody else than the rules allow. Each is tried against the enclave's side with a
 * host that allows everything, and against the host's side with an enclave that allows everything and looks at nothing.
 * Tricks with names and addresses alone: test/pf-proxy/policy and host-alone.test.ts. Those of the network inside:
 * test/compliance/egress.test.ts and walls.test.ts.
 */
import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { openConnection } from "../../../pf-proxy/open-connection.ts";
import { readConnectRequest } from "../../../pf-proxy/proxies/connect-server.ts";
import { readSocksRequest } from "../../../pf-proxy/proxies/socks-server.ts";
import type { EgressRule } from "../../../wire/egress-policy.ts";
import { listen, portOf } from "../relay-chain.ts";
import { addExtension, captureHello, splitRecords } from "./client-hellos.ts";
import { type EchoServer, EgressBed, openEcho, talk } from "./egress-bed.ts";

let echo: EchoServer;
let stack: AsyncDisposableStack;
let everybody: Buffer;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  echo = stack.use(await openEcho());
  everybody = await captureHello("api.test");
});
afterEach(() => stack.disposeAsync());

const ruleFor = (host: string, port: number, rest: Partial<EgressRule> = {}): EgressRule => ({
  action: "allow",
  host,
  ports: [{ from: port, to: port }],
  connectTo: { address: "127.0.0.1", port: echo.port },
  ...rest,
});

describe.each(["inside", "on the host alone"])("%s", (side) => {
  const open = async (
    host: string,
    port: number,
    rest: Partial<EgressRule> = {},
  ): Promise<[EgressBed, number]> => {
    const strict = [ruleFor(host, port, rest)];
    const blind = [ruleFor(host, port, { tls: "off" })];
    const rules =
      side === "inside" ? { rules: strict, hostRules: blind } : { rules: blind, hostRules: strict };
    const bed = stack.use(await EgressBed.open({ ...rules, gateLimits: { proofTimeoutMs: 300 } }));
    return [bed, await bed.listen({ kind: "name", host, port })];
  };
  /** What was refused, and that nothing came through. */
  const expectRefused = async (bed: EgressBed, port: number, bytes: Buffer | string): Promise<void> => {
    const { answer, error } = await talk(port, bytes, false);
    expect([answer.toString("latin1").slice(0, 40), error]).toEqual(["", "ECONNRESET"]);
    const ledger = side === "inside" ? bed.inside : bed.outside;
    expect(ledger.report(null, []).denials).toMatchObject([
      { reason: expect.stringMatching(/^inspection/) as string },
    ]);
  };
  const expectPassed = async (port: number, bytes: Buffer | string): Promise<void> => {
    const { answer, error } = await talk(port, bytes);
    expect(error).toBe(null);
    expect(Buffer.compare(answer, Buffer.from(bytes))).toBe(0);
  };

  describe("TLS", () => {
    test("a ClientHello for the dialled name passes, in one piece, in packets and in records", async () => {
      const [, port] = await open("api.test", 443);
      await expectPassed(port, everybody);
      for (const size of [40, 100, 1000]) await expectPassed(port, splitRecords(everybody, size));
    });

    test.each([
      ["another name", () => captureHello("evil.test")],
      ["a name below", () => captureHello("x.api.test")],
      ["no name", () => captureHello()],
      ["a hidden name (ECH)", () => Promise.resolve(addExtension(everybody, 0xfe0d, Buffer.alloc(32)))],
      [
        "two names",
        () => Promise.resolve(addExtension(everybody, 0, Buffer.from("000b00000865766c2e74657374", "hex"))),
      ],
      ["another name over several records", async () => splitRecords(await captureHello("evil.test"), 40)],
      ["more than 16 KiB", () => Promise.resolve(addExtension(everybody, 0x1234, Buffer.alloc(17_000)))],
      ["HTTP", () => Promise.resolve(Buffer.from("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n"))],
      ["SSH", () => Promise.resolve(Buffer.from("SSH-2.0-OpenSSH_9.2p1\r\n"))],
    ])("with %s is refused where TLS is required", async (_what, make) => {
      const [bed, port] = await open("api.test", 443);
      await expectRefused(bed, port, await make());
    });

    test.each([
      ["another name", () => captureHello("evil.test")],
      ["a hidden name (ECH)", () => Promise.resolve(addExtension(everybody, 0xfe0d, Buffer.alloc(32)))],
    ])("with %s is refused where it is optional, too", async (_what, make) => {
      const [bed, port] = await open("api.test", 8443);
      await expectRefused(bed, port, await make());
    });
  });

  describe("HTTP", () => {
    const get = (host: string, rest = ""): string => `GET / HTTP/1.1\r\nHost: ${host}\r\n${rest}\r\n`;

    test.each([
      ["a request", get("web.test")],
      ["with the port", get("web.test:80")],
      ["in other letters", get("WEB.test.")],
      [
        "after a request with a body",
        `POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhello${get("web.test")}`,
      ],
      [
        "after a chunked one",
        `POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n${get("web.test")}`,
      ],
      ["with its own URL", `GET http://web.test/x HTTP/1.1\r\nHost: web.test\r\n\r\n`],
      ["that expects 100", get("web.test", "Expect: 100-continue\r\n")],
      ["of HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n"],
      ["that is none", "PING\r\n"],
    ])("%s passes", async (_what, text) => {
      await expectPassed((await open("web.test", 80))[1], text);
    });

    test.each([
      ["another Host", get("evil.test")],
      ["another Host in the second request", get("web.test") + get("evil.test")],
      [
        "another Host after a body that looks longer to others",
        `POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n${get("evil.test")}`,
      ],
      ["two Hosts", get("web.test", "Host: evil.test\r\n")],
      ["no Host", "GET / HTTP/1.1\r\n\r\n"],
      ["a folded Host", "GET / HTTP/1.1\r\nHost: web.test\r\n evil.test\r\n\r\n"],
      ["a blank before the colon", "GET / HTTP/1.1\r\nHost : evil.test\r\n\r\n"],
      ["userinfo in Host", get("web.test@evil.test")],
      ["another port in Host", get("web.test:8080")],
      ["a NUL in Host", get("web.test\0.evil.test")],
      ["another URL", `GET http://evil.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n`],
      ["a URL with userinfo", `GET http://web.test@evil.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n`],
      [
        "length and chunks",
        `POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      ],
      [
        "two lengths",
        `POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc`,
      ],
      ["a signed length", `POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: +3\r\n\r\nabc`],
      [
        "a masked coding",
        `POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
      ],
      [
        "a chunk size with a trick",
        `POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n${get("evil.test")}`,
      ],
      ["bare line feeds", "GET / HTTP/1.1\nHost: evil.test\n\n"],
      ["an empty line before it", `\r\n${get("evil.test")}`],
      ["tabs between its words", "GET\t/\tHTTP/1.1\r\nHost: evil.test\r\n\r\n"],
      ["CONNECT", "CONNECT evil.test:443 HTTP/1.1\r\nHost: web.test\r\n\r\n"],
      ["HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
      ["a head that does not end", `GET / HTTP/1.1\r\nHost: web.test\r\n${"X: y\r\n".repeat(7000)}`],
      [
        "an upgrade in the second request",
        get("web.test") + get("web.test", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
      ],
      [
        "a request in the shadow of an upgrade",
        get("web.test", "Connection: Upgrade\r\nUpgrade: websocket\r\n") + get("evil.test"),
      ],
    ])("with %s is refused", async (_what, text) => {
      const [bed, port] = await open("web.test", 80);
      const { error } = await talk(port, Buffer.from(text, "latin1"), false);
      expect(error).toBe("ECONNRESET");
      const ledger = side === "inside" ? bed.inside : bed.outside;
      expect(ledger.report(null, []).denials).toMatchObject([
        { reason: expect.stringMatching(/^inspection/) as string },
      ]);
    });

    test("is anything after an upgrade that the server has taken", async () => {
      const server = createServer((socket) => {
        socket
          .on("error", () => undefined)
          .once("data", () => {
            socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
            socket.pipe(socket);
          });
      });
      await listen(server, { port: 0, host: "127.0.0.1" });
      stack.defer(() => void server.close());
      const connectTo = { address: "127.0.0.1", port: portOf(server) };
      const rules = [ruleFor("web.test", 80, { connectTo })];
      const bed = stack.use(await EgressBed.open({ rules }));
      const port = await bed.listen({ kind: "name", host: "web.test", port: 80 });
      const frames = "GET / HTTP/1.1\r\nHost: frames.of.a.websocket\r\n\r\n";
      const socket = await openConnection("127.0.0.1", port, AbortSignal.timeout(5_000));
      socket.write(`${get("web.test", "Connection: Upgrade\r\nUpgrade: websocket\r\n")}${frames}`);
      let answer = "";
      for await (const chunk of socket)
        if ((answer += String(chunk)).includes("frames.of.a.websocket")) break;
      expect(answer).toMatch(/^HTTP\/1\.1 101 /);
    });
  });
});

describe("a proxy listener", () => {
  const openProxy = async (
    read: typeof readConnectRequest,
    rules: readonly EgressRule[],
  ): Promise<{ readonly bed: EgressBed; readonly port: number }> => {
    const bed = stack.use(await EgressBed.open({ rules, gateLimits: { proofTimeoutMs: 300 } }));
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
      bed.gate.serveProxy(socket, read),
    );
    await listen(server, { port: 0, host: "127.0.0.1" });
    stack.defer(() => void server.close());
    return { bed, port: portOf(server) };
  };
  const socks = (name: string, port: number): Buffer =>
    Buffer.concat([
      Buffer.from([5, 1, 0, 5, 1, 0, 3, name.length]),
      Buffer.from(name, "latin1"),
      Buffer.of(port >> 8, port & 0xff),
    ]);

  test("CONNECT for one name and TLS for another is refused", async () => {
    const { bed, port } = await openProxy(readConnectRequest, [ruleFor("api.test", 443)]);
    const head = Buffer.from("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n");
    expect((await talk(port, Buffer.concat([head, everybody]))).answer.includes(everybody)).toBe(true);
    const { answer } = await talk(port, Buffer.concat([head, await captureHello("evil.test")]), false);
    expect(answer.toString()).toBe("HTTP/1.1 200 Connection established\r\n\r\n");
    expect(bed.inside.report(null, []).denials).toMatchObject([{ target: "api.test:443" }]);
  });

  test.each([
    "evil.test",
    "evil\0.api.test",
    "api.test\0",
    "0x7f000001",
    "2130706433",
    "127.1",
    "::ffff:127.0.0.1",
  ])("SOCKS5 for %j is refused", async (name) => {
    const { port } = await openProxy(readSocksRequest, [
      ruleFor("api.test", 443),
      ruleFor("*.api.test", 443),
    ]);
    const { answer } = await talk(port, socks(name, 443), false);
    expect([...answer.subarray(0, 4)]).toEqual([5, 0, 5, 2]);
    expect(echo.connections()).toBe(0);
  });

  test.each([
    "CONNECT evil.test:443 HTTP/1.1\r\n\r\n",
    "CONNECT api.test:8443 HTTP/1.1\r\n\r\n",
    "CONNECT api.test%00.evil.test:443 HTTP/1.1\r\n\r\n",
    "CONNECT user@api.test:443 HTTP/1.1\r\n\r\n",
    "CONNECT api.test:443:80 HTTP/1.1\r\n\r\n",
    "CONNECT 0177.0.0.1:443 HTTP/1.1\r\n\r\n",
    "CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1\r\n\r\n",
    "CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n",
    "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "\x05\x01\x00",
    "nonsense\r\n\r\n",
  ])("%j is refused", async (text) => {
    const { port } = await openProxy(readConnectRequest, [ruleFor("api.test", 443)]);
    const { answer } = await talk(port, text, false);
    expect(answer.toString()).not.toMatch(/^HTTP\/1\.1 200/);
    expect(echo.connections()).toBe(0);
  });

  test("half a request, an endless one and silence are given up", async () => {
    for (const read of [readConnectRequest, readSocksRequest]) {
      const { port } = await openProxy(read, [ruleFor("api.test", 443)]);
      for (const bytes of [
        "",
        "CONNECT api.test:443",
        "CONNECT ".padEnd(20_000, "a"),
        "\x05",
        "\x05\x01\x00\x05\x01\x00\x03\xff",
      ])
        expect((await talk(port, Buffer.from(bytes, "latin1"), false)).answer.toString()).not.toMatch(/200/);
    }
    expect(echo.connections()).toBe(0);
  });
});
