import fc from "fast-check";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import {
  decodeArchiveReport,
  encodeArchiveRefusal,
  encodeArchiveSummary,
  MAX_ARCHIVE_REPORT_BYTES,
} from "../../wire/archive-report.ts";

function refusalOf(line: string): KitError {
  try {
    decodeArchiveReport(line);
  } catch (error) {
    if (error instanceof KitError) return error;
    throw error;
  }
  throw new Error(`accepted: ${line}`);
}

test("a summary comes back as it was", () => {
  const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
  fc.assert(
    fc.property(fc.record({ entries: count, bytes: count }), (summary) => {
      expect(decodeArchiveReport(encodeArchiveSummary(summary))).toEqual(summary);
    }),
  );
});

test("a refusal comes back with its code, hint and message, the message cut to what fits", () => {
  const message = fc.oneof(fc.string(), fc.string({ unit: "binary", minLength: 700, maxLength: 5000 }));
  fc.assert(
    fc.property(message, (message) => {
      const line = encodeArchiveRefusal(new KitError("E_ARCHIVE_ENTRY", message, { hint: "do this" }));
      expect(line.indexOf("\n")).toBe(line.length - 1);
      expect(Buffer.byteLength(line)).toBeLessThanOrEqual(MAX_ARCHIVE_REPORT_BYTES);
      if (message.includes("\0")) return;
      const refusal = refusalOf(line);
      expect([refusal.code, refusal.hint]).toEqual(["E_ARCHIVE_ENTRY", "do this"]);
      const shown = refusal.message.replace(/…$/, "");
      if (line.length < 500) expect(refusal.message).toBe(message.toWellFormed());
      else expect(message.toWellFormed().startsWith(shown.replace(/\uFFFD$/, ""))).toBe(true);
    }),
  );
});

test("any other line is a coded refusal", () => {
  for (const line of [
    "",
    "x",
    "[]",
    "{}",
    '{"entries":-1,"bytes":0}',
    '{"entries":1,"bytes":0,"x":1}',
    '{"code":"E_NO"}',
    `{"x":"${"x".repeat(5000)}"}`,
  ])
    expect(refusalOf(line).code).toBe("E_ARCHIVE_STREAM");
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
      expect(refusalOf(line).code).toBe("E_ARCHIVE_STREAM");
    }),
  );
});
