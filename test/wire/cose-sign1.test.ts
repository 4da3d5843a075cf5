import { Encoder, Tag } from "cbor-x";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import {
  COSE_ES384,
  decodeCoseSign1,
  encodeCoseSign1,
  encodeProtectedHeader,
  encodeSignedBytes,
} from "../../wire/cose/cose-sign1.ts";
import { expectRefusal } from "../attest/verify/expect-refusal.ts";

const MAX_BYTES = 20 * 1024;
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const ES384 = hex("a1013822");

/** Another encoder than the project's. */
const other = new Encoder({ useRecords: false, mapsAsObjects: false, tagUint8Array: false });
/** It takes views of a Buffer for typed arrays of their own. */
const plain = (bytes: Uint8Array): Buffer => Buffer.from(bytes);

async function decodeRejected(bytes: Uint8Array, maxBytes = MAX_BYTES): Promise<never> {
  throw new Error(`taken: ${JSON.stringify(decodeCoseSign1(bytes, maxBytes))}`);
}

const part = fc.uint8Array({ maxLength: 300 });

describe("a COSE_Sign1 message", () => {
  test("is written as the standard says: four parts, no tag, the shortest lengths", () => {
    const message = { protectedHeader: ES384, payload: hex("aabb"), signature: hex("cc") };
    expect(toHex(encodeCoseSign1(message))).toBe("8444a1013822a042aabb41cc");
    expect(toHex(encodeProtectedHeader(COSE_ES384))).toBe("a1013822");
  });

  test("is signed over its kind, its protected header, nothing from outside, and its payload", () => {
    const bytes = encodeSignedBytes(ES384, hex("aabb"));
    expect(toHex(bytes)).toBe(`846a${toHex(Buffer.from("Signature1"))}44a10138224042aabb`);
  });

  test("comes back as it was written", () => {
    fc.assert(
      fc.property(fc.integer({ min: -65_536, max: 65_535 }), part, part, (algorithm, payload, signature) => {
        const protectedHeader = encodeProtectedHeader(algorithm);
        const bytes = encodeCoseSign1({ protectedHeader, payload, signature });
        expect(decodeCoseSign1(bytes, MAX_BYTES)).toEqual({ protectedHeader, algorithm, payload, signature });
        const tagged = Buffer.concat([hex("d2"), bytes]);
        expect(decodeCoseSign1(tagged, MAX_BYTES)).toEqual(decodeCoseSign1(bytes, MAX_BYTES));
      }),
    );
  });

  test("is the same for an encoder and a decoder of other people", () => {
    fc.assert(
      fc.property(part, part, fc.boolean(), (payload, signature, isTagged) => {
        const message = [ES384, new Map([[4, "key"]]), plain(payload), plain(signature)];
        const written = other.encode(isTagged ? new Tag(message, 18) : message);
        expect(decodeCoseSign1(written, MAX_BYTES)).toEqual({
          protectedHeader: new Uint8Array(ES384),
          algorithm: COSE_ES384,
          payload,
          signature,
        });
        const read: unknown = other.decode(encodeCoseSign1({ protectedHeader: ES384, payload, signature }));
        expect(read).toEqual([new Uint8Array(ES384), new Map(), payload, signature]);
        const signed: unknown = other.decode(encodeSignedBytes(ES384, payload));
        expect(signed).toEqual(["Signature1", new Uint8Array(ES384), new Uint8Array(), payload]);
      }),
    );
  });

  test("keeps the protected header as it came, however it is written", () => {
    for (const header of ["bf013822ff", "a101390022", "a20138220442abcd", "a2186301013822"]) {
      const bytes = encodeCbor([hex(header), new Map(), hex("00"), hex("00")]);
      const { protectedHeader, algorithm } = decodeCoseSign1(bytes, MAX_BYTES);
      expect(toHex(protectedHeader)).toBe(header);
      expect(algorithm).toBe(COSE_ES384);
    }
  });

  test("is read without a copy", () => {
    const bytes = encodeCoseSign1({ protectedHeader: ES384, payload: hex("aabb"), signature: hex("cc") });
    const { protectedHeader, payload, signature } = decodeCoseSign1(bytes, MAX_BYTES);
    for (const view of [protectedHeader, payload, signature]) expect(view.buffer).toBe(bytes.buffer);
  });

  test("names whatever algorithm it has", () => {
    for (const algorithm of [-7, 2 ** 40, -(2n ** 63n), "private"]) {
      const header = encodeCbor(new Map([[1, algorithm]]));
      expect(decodeCoseSign1(encodeCbor([header, new Map(), hex(""), hex("")]), 100).algorithm).toBe(algorithm);
    }
  }); // prettier-ignore

  test("may have as many bytes as it is allowed, and no more", async () => {
    const bytes = encodeCoseSign1({ protectedHeader: ES384, payload: hex("aabb"), signature: hex("cc") });
    decodeCoseSign1(bytes, bytes.length);
    const more = async (): Promise<never> => await decodeRejected(bytes, bytes.length - 1);
    await expectRefusal(more(), "E_EVIDENCE_SIZE", String(bytes.length));
    await expectRefusal(decodeRejected(new Uint8Array()), "E_EVIDENCE_SIZE");
  });

  test("may have a protected header of 256 bytes, and of no more", async () => {
    // {1: -35, 4: as many bytes as it takes}
    const withHeader = (sizeBytes: number): Buffer => {
      const header = Buffer.concat([hex("a2013822 0458"), Buffer.of(sizeBytes - 7), Buffer.alloc(sizeBytes - 7)]); // prettier-ignore
      expect(header).toHaveLength(sizeBytes);
      return encodeCbor([header, new Map(), hex(""), hex("")]);
    };
    expect(decodeCoseSign1(withHeader(256), MAX_BYTES).algorithm).toBe(COSE_ES384);
    await expectRefusal(decodeRejected(withHeader(257)), "E_EVIDENCE_COSE", /257/);
  });

  test.each<[what: string, bytes: string]>([
    ["tag 17, of a message with a code", "d1 8443a10122a04040"],
    ["tag 98, of a message with several signatures", "d862 8443a10122a04040"],
    ["tag 18 in tag 18", "d2d2 8443a10122a04040"],
    ["tag 61 around it, as in tokens", "d83dd2 8443a10122a04040"],
    ["itself in a list", "81 8443a10122a04040"],
    ["itself in a byte string", "48 8443a10122a04040"],
    ["its parts in a map", "a4 0043a10122 01a0 0240 0340"],
    ["null", "f6"],
    ["text", "6161"],
  ])("is not %s", async (_what, bytes) => {
    await expectRefusal(decodeRejected(hex(bytes)), "E_EVIDENCE_COSE");
  });

  test("is what any bytes are, or they are refused with a code", () => {
    const head = fc.constantFrom("", "d2", "84", "8443a10122a0", "8444a1013822a040").map(hex);
    fc.assert(
      fc.property(head, fc.uint8Array({ maxLength: 60 }), (start, rest) => {
        try {
          decodeCoseSign1(Buffer.concat([start, rest]), MAX_BYTES);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
          expect(error).toMatchObject({ code: expect.stringMatching(/^E_EVIDENCE_(?:SIZE|ENCODING|COSE)$/) });
        }
      }),
      { numRuns: 3000 },
    );
  });
});
