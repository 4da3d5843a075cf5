import fc from "fast-check";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { decodeEvidence, encodeEvidence, MAX_EVIDENCE_BYTES } from "../../wire/ra-tls.ts";
import { isKitError } from "../enclave/kit-error.ts";

test("a document comes back out of its extension as it went in", () => {
  const property = fc.property(
    fc.uint8Array({ minLength: 256, maxLength: MAX_EVIDENCE_BYTES }),
    (document) => {
      expect(decodeEvidence(encodeEvidence(document))).toEqual(document);
    },
  );
  fc.assert(property, { numRuns: 50 });
});

test("any bytes are a document or refused by their code", () => {
  const property = fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
    try {
      expect(encodeEvidence(decodeEvidence(bytes))).toEqual(bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(KitError);
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("what is cut, lengthened, of another type or longer than any document is refused", () => {
  const whole = encodeEvidence(new Uint8Array(400));
  const longer = Buffer.concat([whole, Buffer.of(0)]);
  const other = Uint8Array.from(whole, (byte, index) => (index === 0 ? 3 : byte));
  const giant = Buffer.concat([Buffer.of(4, 0x82, 0xff, 0xff), Buffer.alloc(0xffff)]);
  const indefinite = Buffer.concat([Buffer.of(0x24, 0x80), Buffer.alloc(300)]);
  for (const bytes of [whole.subarray(0, -1), longer, other, giant, indefinite, new Uint8Array(0)]) {
    expect(() => decodeEvidence(bytes)).toThrow(isKitError("E_EVIDENCE_MISSING"));
  }
  for (const size of [0, 255, MAX_EVIDENCE_BYTES + 1]) {
    expect(() => encodeEvidence(new Uint8Array(size))).toThrow(RangeError);
  }
});
