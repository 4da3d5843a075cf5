import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import {
  decodeConnect,
  decodeOk,
  encodeConnect,
  encodeOk,
  hostListenerName,
} from "../../wire/hybrid-vsock.ts";
import {
  decodeIngressPreface,
  decodeIngressStatus,
  encodeIngressPreface,
  INGRESS_STATUS,
} from "../../wire/ingress-preface.ts";
import { decodeInitLine, INIT_END_CODES, MAX_INIT_LINE_BYTES } from "../../wire/init-line.ts";

/** Runs a decoder on hostile input: a value or a KitError, nothing else. */
function valueOrRefusal<T>(decode: () => T): T | string {
  try {
    return decode();
  } catch (error) {
    if (error instanceof KitError) return error.code;
    throw error;
  }
}

describe("hybrid vsock handshake", () => {
  const ports = fc.integer({ min: 0, max: 0xff_ff_ff_ff });

  test("what is encoded is decoded", () => {
    fc.assert(fc.property(ports, (port) => decodeConnect(encodeConnect(port).trimEnd()) === port));
    fc.assert(fc.property(ports, (port) => decodeOk(encodeOk(port).trimEnd()) === port));
    expect(hostListenerName(9000)).toBe("vsock.sock_9000");
  });

  test.each([
    "",
    "CONNECT",
    "CONNECT ",
    "CONNECT -1",
    "CONNECT 1 ",
    " CONNECT 1",
    "connect 1",
    "CONNECT 4294967296",
    "CONNECT 1e3",
    "OK 1",
    "CONNECT 0x10",
    "CONNECT 1\n",
  ])("refuses %j", (line) => expect(() => decodeConnect(line)).toThrow(KitError));

  test("any line gives a port or a refusal", () => {
    fc.assert(fc.property(fc.string(), (line) => void valueOrRefusal(() => decodeConnect(line))));
  });
});

describe("ingress preface", () => {
  test("what is encoded is decoded", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 65_535 }),
        (port) => decodeIngressPreface(encodeIngressPreface(port)) === port,
      ),
    );
    for (const [name, byte] of Object.entries(INGRESS_STATUS)) expect(decodeIngressStatus(byte)).toBe(name);
  });

  test("has the bytes that are written down", () => {
    expect([...encodeIngressPreface(8080)]).toEqual([0x45, 0x49, 0x01, 0x00, 0x1f, 0x90]);
  });

  test("any bytes give a port or a refusal, and every change of the fixed bytes is refused", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 12 }),
        (bytes) => void valueOrRefusal(() => decodeIngressPreface(bytes)),
      ),
    );
    for (const index of [0, 1, 2, 3]) {
      const bytes = encodeIngressPreface(80);
      bytes[index] = (bytes[index] ?? 0) ^ 0x80;
      expect(() => decodeIngressPreface(bytes)).toThrow(KitError);
    }
    expect(() => decodeIngressPreface(encodeIngressPreface(0))).toThrow(KitError);
    expect(() => decodeIngressStatus(4)).toThrow(KitError);
  });
});

describe("init's line", () => {
  test("ready and every end code are understood", () => {
    expect(decodeInitLine("ready")).toEqual({ kind: "ready" });
    for (const code of INIT_END_CODES) {
      expect(decodeInitLine(JSON.stringify({ code, reason: 'a "b"' }))).toEqual({
        kind: "end",
        code,
        reason: 'a "b"',
      });
    }
  });

  test.each([
    "",
    "Ready",
    "ready ",
    "[]",
    "null",
    "1",
    "{",
    '{"code":"poweroff"}',
    '{"code":"other","reason":"x"}',
    '{"code":"poweroff","reason":1}',
    '{"code":"poweroff","reason":"x","more":1}',
  ])("refuses %j", (line) => expect(() => decodeInitLine(line)).toThrow(KitError));

  test("refuses a line over the limit, and any text gives a value or a refusal", () => {
    const long = JSON.stringify({ code: "poweroff", reason: "x".repeat(MAX_INIT_LINE_BYTES) });
    expect(valueOrRefusal(() => decodeInitLine(long))).toBe("E_INIT_LINE");
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.json()),
        (line) => void valueOrRefusal(() => decodeInitLine(line)),
      ),
    );
  });
});
