import fc from "fast-check";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import {
  type AttestationReport,
  decodeServerLine,
  encodeServerLine,
  FIRST_REPORT,
  MAX_SERVER_LINE_BYTES,
} from "../../wire/attestation-server.ts";

const time = fc.option(fc.maxSafeInteger());
const report: fc.Arbitrary<AttestationReport> = fc.record({
  state: fc.constantFrom("starting" as const, "ready" as const, "failed" as const),
  reason: fc.option(
    fc.record({ code: fc.constant("E_NSM_NO_DEVICE"), message: fc.string({ maxLength: 1024 }) }),
  ),
  documentTimeMs: time,
  clockOffsetMs: time,
  clockJumps: fc.maxSafeNat(),
  certificateNotAfterMs: time,
});

test("a report comes back as it was sent, in one line", () => {
  fc.assert(
    fc.property(report, (sent) => {
      const line = encodeServerLine({ report: sent });
      expect(line.indexOf("\n")).toBe(line.length - 1);
      expect(decodeServerLine(line)).toEqual({ report: sent });
    }),
  );
  expect(decodeServerLine(encodeServerLine({ alive: true }))).toEqual({ alive: true });
});

test("a long reason is cut to what the supervisor takes", () => {
  const reason = { code: "E_INTERNAL", message: "x".repeat(100_000) };
  const line = encodeServerLine({ report: { ...FIRST_REPORT, reason } });
  expect(line.length).toBeLessThanOrEqual(MAX_SERVER_LINE_BYTES);
  expect(decodeServerLine(line)).toMatchObject({ report: { reason: { code: "E_INTERNAL" } } });
});

test("anything else is refused by code", () => {
  const lines = [
    "",
    "null",
    "{}",
    '{"alive":false}',
    '{"alive":true,"x":1}',
    '{"report":{}}',
    '{"report":null}',
  ];
  for (const line of lines) expect(() => decodeServerLine(line)).toThrow(KitError);
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        decodeServerLine(text);
      } catch (error) {
        expect(error).toMatchObject({ code: "E_ENCLAVE_FRAME" });
      }
    }),
  );
});
