import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { decodeLogItem, decodeStatus } from "../../host/runner/status-decoder.ts";
import { statusOf } from "./status-of.ts";

const decoders = [
  ["status", decodeStatus, statusOf()],
  ["log entry", decodeLogItem, { seq: 1, time: 2, service: "web", stream: "stdout", line: "x" }],
] as const;

describe.each(decoders)("a %s", (_name, decode, good) => {
  test("of any shape is decoded or refused by code", () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.jsonValue()), (value) => {
        try {
          decode(value);
        } catch (error) {
          expect(error).toMatchObject({ code: "E_HOST_CONTROL" });
        }
      }),
    );
  });

  test("with any part replaced is decoded or refused by code", () => {
    const text = JSON.stringify(good);
    const part = fc.tuple(
      fc.nat(text.length - 1),
      fc.constantFrom("1", "-1", "1e99", "null", '"', "{}", "[]"),
    );
    fc.assert(
      fc.property(part, ([at, piece]) => {
        const changed = parse(text.slice(0, at) + piece + text.slice(at + 1));
        try {
          decode(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
    );
  });
});

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

test("control characters of the enclave reach neither records nor terminals", () => {
  const status = statusOf({ name: "we\u001B[2Jb", reason: "exited(1)\r\n\u001B]0;owned\u0007\u009B31m" });
  const [service] = decodeStatus(status).services;
  expect(service).toMatchObject({ name: "we [2Jb", reason: "exited(1) ]0;owned 31m" });
  const item = decodeLogItem({ seq: 1, time: 1, service: "a\u001Bc", stream: "stdout", line: "\u001B[2J" });
  expect(item).toMatchObject({ entry: { service: "a c" } });
});

test.each([
  [
    "too many services",
    { ...statusOf(), services: Array.from({ length: 1025 }, () => statusOf().services[0]) },
  ],
  ["a name without end", statusOf({ name: "n".repeat(2000) })],
  ["an unknown state", statusOf({ state: "levitating" })],
  ["a negative pid", statusOf({ pid: -1 })],
  ["a fraction of a restart", statusOf({ restarts: 0.5 })],
  ["services that are no list", { ...statusOf(), services: { length: 1 } }],
])("%s is refused", (_title, value) => {
  expect(() => decodeStatus(value)).toThrow(KitError);
});
