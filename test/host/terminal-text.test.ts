import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { toPrintable } from "../../core/printable.ts";
import {
  decodeStopRequest,
  encodeStopRequest,
  MAX_STOP_REQUEST_BYTES,
} from "../../host/runner/run-request.ts";

describe("text of an enclave on a terminal", () => {
  test.each([
    ["colours stay", "\u001B[31mred\u001B[0m", "\u001B[31mred\u001B[0m"],
    ["the screen is not cleared", "a\u001B[2Jb", "a[2Jb"],
    ["the title is not set", "\u001B]0;root\u0007x", "]0;rootx"],
    ["a line does not overwrite itself", "safe\rfake", "safefake"],
    ["eight-bit controls go too", "\u009B31mx", "31mx"],
    ["newlines and tabs stay", "a\n\tb", "a\n\tb"],
  ])("%s", (_title, text, shown) => {
    expect(toPrintable(text)).toBe(shown);
  });

  test("no escape but those of colours is left, whatever comes", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("\u001B", "[", "3", "1", "m", ";", "J", "\r") }),
        (text) => {
          const pieces = toPrintable(text).split("\u001B");
          for (const piece of pieces.slice(1)) expect(piece).toMatch(/^\[[0-9;]*m/);
          expect(pieces.join("")).not.toContain("\r");
        },
      ),
    );
  });
});

test("a stop request is one bounded line, and its reason comes back", () => {
  expect(encodeStopRequest()).toBe("stop\n");
  expect(decodeStopRequest("stop")).toBeUndefined();
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 3000 }), (reason) => {
      const line = encodeStopRequest(reason);
      expect(line.indexOf("\n")).toBe(line.length - 1);
      expect(Buffer.byteLength(line)).toBeLessThan(MAX_STOP_REQUEST_BYTES);
      const plain = reason.replaceAll(/\s+/g, " ").trim().slice(0, 1000).trim();
      expect(decodeStopRequest(line.slice(0, -1))).toBe(plain === "" ? undefined : plain);
    }),
  );
});
