import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../wire/cbor/cbor-value.ts";
import { decodeNsmRequest, encodeNsmRequest, type NsmRequest } from "../../wire/nsm/nsm-requests.ts";
import {
  decodeNsmResponse,
  encodeNsmResponse,
  NSM_ERROR_NAMES,
  type NsmAnswer,
} from "../../wire/nsm/nsm-responses.ts";

const hex = (text: string): Buffer => Buffer.from(text, "hex");
const map = (entries: Readonly<Record<string, CborValue>>): ReadonlyMap<string, CborValue> =>
  new Map(Object.entries(entries));
const message = (name: string, fields: Readonly<Record<string, CborValue>>): Buffer =>
  encodeCbor(map({ [name]: map(fields) }));

/** What AWS's own client sends for each. */
const EXAMPLES: readonly (readonly [hex: string, request: NsmRequest])[] = [
  ["6b44657363726962654e534d", { kind: "DescribeNSM" }],
  ["6947657452616e646f6d", { kind: "GetRandom" }],
  ["a16b4465736372696265504352a165696e64657800", { kind: "DescribePCR", index: 0 }],
  ["a169457874656e64504352a265696e6465781064646174614101", { kind: "ExtendPCR", index: 16, data: Uint8Array.of(1) }],
  ["a1674c6f636b504352a165696e64657810", { kind: "LockPCR", index: 16 }],
  ["a1684c6f636b50435273a16572616e67651820", { kind: "LockPCRs", range: 32 }],
  ["a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365f66a7075626c69635f6b6579f6", { kind: "Attestation", userData: null, nonce: null, publicKey: null }],
]; // prettier-ignore

const bytes = (maxLength = 1024): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });
const u16 = fc.nat(0xffff);
const field = fc.option(bytes(), { nil: null });
const anyRequest: fc.Arbitrary<NsmRequest> = fc.oneof(
  fc.record({ kind: fc.constantFrom("DescribeNSM" as const, "GetRandom" as const) }),
  fc.record({ kind: fc.constantFrom("DescribePCR" as const, "LockPCR" as const), index: u16 }),
  fc.record({ kind: fc.constant("LockPCRs" as const), range: u16 }),
  fc.record({ kind: fc.constant("ExtendPCR" as const), index: u16, data: bytes(3000) }),
  fc.record({ kind: fc.constant("Attestation" as const), userData: field, nonce: field, publicKey: field }),
);
const anyAnswer: fc.Arbitrary<NsmAnswer> = fc.oneof(
  fc.record({ kind: fc.constantFrom("LockPCR" as const, "LockPCRs" as const) }),
  fc.record({ kind: fc.constant("DescribePCR" as const), lock: fc.boolean(), data: bytes(64) }),
  fc.record({ kind: fc.constant("ExtendPCR" as const), data: bytes(64) }),
  fc.record({ kind: fc.constant("Attestation" as const), document: bytes(9000) }),
  fc.record({ kind: fc.constant("GetRandom" as const), random: bytes(256) }),
  fc.record({
    kind: fc.constant("DescribeNSM" as const),
    version: fc.tuple(u16, u16, u16),
    moduleId: fc.string({ unit: "grapheme", maxLength: 60 }),
    maxPcrs: u16,
    lockedPcrs: fc.array(u16, { maxLength: 32 }),
    digest: fc.string(),
  }),
);

/** What a decoder of untrusted bytes may do: answer, or refuse by that code. */
function refusesOnlyBy(code: string, decode: () => unknown): void {
  try {
    decode();
  } catch (error) {
    expect(error).toBeInstanceOf(KitError);
    expect(error).toMatchObject({ code });
  }
}

/** A valid message with a few bytes changed, cut or added comes further into a decoder than noise does. */
const damaged = (whole: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> =>
  fc
    .tuple(whole, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }), fc.nat(), bytes(4))
    .map(([sound, changes, cut, more]) => {
      const copy = Uint8Array.from(sound);
      for (const [at, value] of changes) copy[at % copy.length] = value;
      return Buffer.concat([cut % 3 === 0 ? copy.subarray(0, cut % (copy.length + 1)) : copy, more]);
    });

describe("requests", () => {
  test.each(EXAMPLES)("are written to the byte as AWS's client does: %s", (example, request) => {
    expect(encodeNsmRequest(request).toString("hex")).toBe(example);
    expect(decodeNsmRequest(hex(example))).toEqual(request);
  });

  test("come back as they went out", () => {
    fc.assert(
      fc.property(anyRequest, (request) => {
        expect(decodeNsmRequest(encodeNsmRequest(request))).toEqual(request);
      }),
    );
  });

  test("are taken with fields in any order, missing fields for null, long numbers and indefinite lengths", () => {
    const wanted = { kind: "Attestation", userData: null, nonce: Uint8Array.of(7), publicKey: null };
    expect(decodeNsmRequest(message("Attestation", { nonce: Uint8Array.of(7) }))).toEqual(wanted);
    expect(
      decodeNsmRequest(
        message("Attestation", { public_key: null, nonce: Uint8Array.of(7), user_data: null }),
      ),
    ).toEqual(wanted);
    // {_ "LockPCR": {_ "index": 16 in eight bytes}}
    expect(decodeNsmRequest(hex("bf674c6f636b504352bf65696e6465781b0000000000000010ffff"))).toEqual({
      kind: "LockPCR",
      index: 16,
    });
    // "data" in two pieces
    expect(decodeNsmRequest(hex("a169457874656e64504352a264646174615f41014102ff65696e64657810"))).toEqual({
      kind: "ExtendPCR",
      index: 16,
      data: Uint8Array.of(1, 2),
    });
  });

  test.each([
    ["nothing", hex("")],
    ["a text that is no request", encodeCbor("GetRandomness")],
    ["a request that has fields, without any", encodeCbor("LockPCR")],
    ["one that has none, with some", message("GetRandom", {})],
    ["one that has none, over null", encodeCbor(map({ GetRandom: null }))],
    ["a number", encodeCbor(1)],
    ["a list", encodeCbor(["GetRandom"])],
    ["an empty map", encodeCbor(new Map())],
    ["two requests in one", encodeCbor(map({ LockPCR: map({ index: 16 }), LockPCRs: map({ range: 1 }) }))],
    ["a number for a name", encodeCbor(new Map([[1, map({ index: 16 })]]))],
    ["bytes after it", Buffer.concat([encodeCbor("GetRandom"), hex("00")])],
    ["a tag", Buffer.concat([hex("c1"), encodeCbor("GetRandom")])],
    ["a key twice", hex("a1674c6f636b504352a265696e6465781065696e64657811")],
    ["half of it", hex("a1674c6f636b504352a165696e646578")],
    ["a text where bytes are due", message("Attestation", { nonce: "text" })],
    ["a text to extend with", message("ExtendPCR", { index: 16, data: "text" })],
    ["nothing to extend with", message("ExtendPCR", { index: 16 })],
    ["null to extend with", message("ExtendPCR", { index: 16, data: null })],
    ["no index", message("LockPCR", {})],
    ["an index below zero", message("LockPCR", { index: -1 })],
    ["an index of more than 16 bits", message("LockPCR", { index: 0x1_0000 })],
    ["an index of more than 53 bits", message("LockPCR", { index: 2n ** 64n - 1n })],
    ["a fraction", hex("a1674c6f636b504352a165696e646578f94c00")],
    ["fields in a list", encodeCbor(map({ LockPCR: [16] }))],
    ["a field that is not known", message("Attestation", { nonse: Uint8Array.of(1) })],
    ["more than 4096 bytes", message("ExtendPCR", { index: 16, data: new Uint8Array(0x1000) })],
    ["lists within lists", Buffer.concat([Buffer.alloc(4000, 0x81), hex("00")])],
    ["a length of 2^64 - 1", hex("bbffffffffffffffff")],
    ["two thousand keys", encodeCbor(map({ LockPCR: new Map(Array.from({ length: 900 }, (_, index) => [index, 0])) }))],
  ])("are refused: %s", (_what, request) => {
    expect(() => decodeNsmRequest(request)).toThrow(expect.objectContaining({ code: "E_NSM_REQUEST" }));
  }); // prettier-ignore

  test("any bytes are a request or are refused by their code", () => {
    fc.assert(fc.property(bytes(), (noise) => refusesOnlyBy("E_NSM_REQUEST", () => decodeNsmRequest(noise))));
    fc.assert(
      fc.property(damaged(anyRequest.map(encodeNsmRequest)), (noise) =>
        refusesOnlyBy("E_NSM_REQUEST", () => decodeNsmRequest(noise)),
      ),
    );
  });
});

describe("responses", () => {
  test("come back as they went out", () => {
    fc.assert(
      fc.property(anyAnswer, (answer) => {
        const { kind, ...content } = answer;
        expect(decodeNsmResponse(encodeNsmResponse(answer), { kind })).toEqual(content);
      }),
    );
  });

  test.each(NSM_ERROR_NAMES)("the error %s answers every request", (error) => {
    const encoded = encodeNsmResponse({ kind: "Error", error });
    expect(encoded).toEqual(encodeCbor(map({ Error: error })));
    for (const [, { kind }] of EXAMPLES)
      expect(decodeNsmResponse(encoded, { kind })).toEqual({ kind: "Error", error });
  });

  test("are written to the byte as the device does", () => {
    const error = encodeNsmResponse({ kind: "Error", error: "InvalidIndex" });
    expect(error.toString("hex")).toBe("a1654572726f726c496e76616c6964496e646578");
    expect(encodeNsmResponse({ kind: "LockPCR" })).toEqual(encodeCbor("LockPCR"));
  });

  test("may have fields that a later version adds", () => {
    const response = message("GetRandom", { random: Uint8Array.of(1), quality: 1000 });
    expect(decodeNsmResponse(response, { kind: "GetRandom" })).toEqual({ random: Uint8Array.of(1) });
  });

  test.each([
    ["the answer to something else", "LockPCR", encodeCbor("LockPCRs")],
    ["the request itself", "GetRandom", encodeCbor("GetRandom")],
    ["an error that there is not", "LockPCR", encodeCbor(map({ Error: "Tired" }))],
    ["an error that says Success", "LockPCR", encodeCbor(map({ Error: "Success" }))],
    ["an error without a name", "LockPCR", encodeCbor("Error")],
    ["fields where there are none", "LockPCR", message("LockPCR", {})],
    ["a lock that is a number", "DescribePCR", message("DescribePCR", { lock: 1, data: new Uint8Array(48) })],
    ["a text for a document", "Attestation", message("Attestation", { document: "document" })],
    ["random bytes that are null", "GetRandom", message("GetRandom", { random: null })],
    ["no list of locked registers", "DescribeNSM", message("DescribeNSM", { version_major: 1, version_minor: 0, version_patch: 0, module_id: "i", max_pcrs: 32, locked_pcrs: 16, digest: "SHA384" })],
    ["texts in the list of locked registers", "DescribeNSM", message("DescribeNSM", { version_major: 1, version_minor: 0, version_patch: 0, module_id: "i", max_pcrs: 32, locked_pcrs: ["0"], digest: "SHA384" })],
    ["more than 0x3000 bytes", "Attestation", message("Attestation", { document: new Uint8Array(0x3000) })],
    ["nothing", "GetRandom", hex("")],
  ] as const)("are refused: %s", (_what, kind, response) => {
    expect(() => decodeNsmResponse(response, { kind })).toThrow(
      expect.objectContaining({ code: "E_NSM_RESPONSE" }),
    );
  }); // prettier-ignore

  test("any bytes are a response or are refused by their code", () => {
    for (const [, request] of EXAMPLES) {
      fc.assert(
        fc.property(bytes(), (noise) =>
          refusesOnlyBy("E_NSM_RESPONSE", () => decodeNsmResponse(noise, request)),
        ),
        { numRuns: 50 },
      );
      fc.assert(
        fc.property(damaged(anyAnswer.map(encodeNsmResponse)), (noise) =>
          refusesOnlyBy("E_NSM_RESPONSE", () => decodeNsmResponse(noise, request)),
        ),
        { numRuns: 50 },
      );
    }
  });
});
