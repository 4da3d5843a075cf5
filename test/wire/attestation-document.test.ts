import { Encoder } from "cbor-x";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import {
  type AttestationPayload,
  decodeAttestationPayload,
  MAX_CABUNDLE,
  MAX_CERTIFICATE_BYTES,
  MAX_PAYLOAD_BYTES,
} from "../../wire/attestation-document.ts";
import { encodeCbor } from "../../wire/cbor/cbor-encoder.ts";
import type { CborKey, CborValue } from "../../wire/cbor/cbor-value.ts";
import { expectRefusal } from "../attest/verify/expect-refusal.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength });
const register = fc.constantFrom(32, 48, 64).chain((sizeBytes) => bytes(sizeBytes, sizeBytes));
const registers = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 31 }), register), { minLength: 1, maxLength: 32, selector: ([index]) => index })
  .map((entries) => new Map(entries)); // prettier-ignore

const contents = fc.record({
  moduleId: fc.string({ unit: "binary", minLength: 1, maxLength: 80 }),
  timestampMs: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  pcrs: registers,
  certificate: bytes(1, 300),
  cabundle: fc.array(bytes(1, 300), { minLength: 1, maxLength: MAX_CABUNDLE }),
  publicKey: fc.option(bytes(1, MAX_CERTIFICATE_BYTES)),
  userData: fc.option(bytes(0, 600)),
  nonce: fc.option(bytes(0, 600)),
});

/** Under the keys that a document has. */
function toMap(content: Omit<AttestationPayload, "digest" | "unknownKeys">): Map<CborKey, CborValue> {
  return new Map<CborKey, CborValue>([
    ["module_id", content.moduleId],
    ["digest", "SHA384"],
    ["timestamp", content.timestampMs],
    ["pcrs", content.pcrs],
    ["certificate", content.certificate],
    ["cabundle", content.cabundle],
    ["public_key", content.publicKey],
    ["user_data", content.userData],
    ["nonce", content.nonce],
  ]);
}

const SMALL = toMap({
  moduleId: "m",
  timestampMs: 1,
  pcrs: new Map([[0, new Uint8Array(48)]]),
  certificate: Uint8Array.of(1),
  cabundle: [Uint8Array.of(2)],
  publicKey: null,
  userData: null,
  nonce: null,
});

async function refusalOf(map: ReadonlyMap<CborKey, CborValue>): Promise<never> {
  throw new Error(`taken: ${JSON.stringify(decodeAttestationPayload(encodeCbor(map)))}`);
}

describe("a payload", () => {
  test("is read as it was written, its keys in any order", () => {
    fc.assert(
      fc.property(contents, fc.infiniteStream(fc.nat()), (content, random) => {
        const order = [...toMap(content)].map((entry) => ({ entry, rank: random.next().value ?? 0 }));
        const shuffled = order.toSorted((a, b) => a.rank - b.rank).map(({ entry }) => entry);
        const written = encodeCbor(new Map(shuffled));
        expect(decodeAttestationPayload(written)).toEqual({ ...content, digest: "SHA384", unknownKeys: [] });
      }),
      { numRuns: 200 },
    );
  });

  test("is read as an encoder of other people writes it, in definite lengths and in indefinite ones", () => {
    const other = new Encoder({ useRecords: false, mapsAsObjects: false, tagUint8Array: false });
    fc.assert(
      fc.property(contents, (content) => {
        const expected = { ...content, digest: "SHA384", unknownKeys: [] };
        // Larger numbers than 2^32 it writes as floating point, unless they are bigint.
        const map = toMap(content).set("timestamp", BigInt(content.timestampMs));
        expect(decodeAttestationPayload(other.encode(map))).toEqual(expected);
        const entries = [...map].flatMap((entry) => entry.map((item): Uint8Array => other.encode(item)));
        const indefinite = Buffer.concat([hex("bf"), ...entries, hex("ff")]);
        expect(decodeAttestationPayload(indefinite)).toEqual(expected);
        const read: unknown = other.decode(encodeCbor(toMap(content)));
        expect(read).toMatchObject({ size: 9 });
      }),
      { numRuns: 100 },
    );
  });

  test("says the same with null and without the key", () => {
    for (const name of ["public_key", "user_data", "nonce"]) {
      const without = new Map(SMALL);
      without.delete(name);
      expect(decodeAttestationPayload(encodeCbor(without))).toEqual(
        decodeAttestationPayload(encodeCbor(new Map(SMALL).set(name, null))),
      );
    }
  });

  test("names the keys that are not known, in their order, numbers too", () => {
    const map = new Map<CborKey, CborValue>([["zeta", 1], ...SMALL, [-7, null], [2n ** 63n, []], ["", "x"]]);
    expect(decodeAttestationPayload(encodeCbor(map)).unknownKeys).toEqual([
      "zeta",
      "-7",
      "9223372036854775808",
      "",
    ]);
  });

  test("takes a known key in another spelling for an unknown one", async () => {
    const map = new Map<CborKey, CborValue>([...SMALL, ["Nonce", hex("00")], ["nonce ", hex("00")], ["PCRS", 1]]);
    const { nonce, unknownKeys } = decodeAttestationPayload(encodeCbor(map));
    expect(nonce).toBeNull();
    expect(unknownKeys).toEqual(["Nonce", "nonce ", "PCRS"]);
    const without = new Map(map);
    without.delete("pcrs");
    await expectRefusal(refusalOf(without), "E_EVIDENCE_PAYLOAD", /pcrs/);
  }); // prettier-ignore

  test("holds views of the bytes that it was read from", () => {
    const written = encodeCbor(SMALL);
    const { certificate, pcrs } = decodeAttestationPayload(written);
    expect(certificate.buffer).toBe(written.buffer);
    expect(pcrs.get(0)?.buffer).toBe(written.buffer);
  });
});

describe("limits of a payload", () => {
  test("are 1 to 16384 bytes", async () => {
    const rest = encodeCbor(new Map(SMALL).set("user_data", new Uint8Array(16_000))).length - 16_000;
    const fill = (sizeBytes: number) => new Map(SMALL).set("user_data", new Uint8Array(sizeBytes - rest));
    expect(decodeAttestationPayload(encodeCbor(fill(MAX_PAYLOAD_BYTES))).userData).not.toBeNull();
    await expectRefusal(refusalOf(fill(MAX_PAYLOAD_BYTES + 1)), "E_EVIDENCE_SIZE", /16385/);
  });

  test("are 16 certificates of 1024 bytes, with the one that signs", async () => {
    const largest = new Uint8Array(MAX_CERTIFICATE_BYTES);
    const one = new Uint8Array(1);
    const map = new Map(SMALL).set("certificate", largest).set("cabundle", [largest, ...Array.from({ length: 12 }, () => largest)]); // prettier-ignore
    expect(decodeAttestationPayload(encodeCbor(map)).cabundle).toHaveLength(13);
    const sixteen = Array.from({ length: 16 }, () => one);
    expect(decodeAttestationPayload(encodeCbor(new Map(SMALL).set("cabundle", sixteen))).cabundle).toHaveLength(16);
    for (const [name, value] of [
      ["certificate", new Uint8Array(1025)],
      ["cabundle", [one, new Uint8Array(1025)]],
      ["cabundle", [...sixteen, one]],
    ] as const)
      await expectRefusal(refusalOf(new Map(SMALL).set(name, value)), "E_EVIDENCE_PAYLOAD", /1025|17/);
  }); // prettier-ignore

  test.each([0, 1, 512, 513, 1024, 1025, 4096])("let user data and a nonce have %i bytes", (sizeBytes) => {
    const map = new Map(SMALL).set("nonce", new Uint8Array(sizeBytes)).set("user_data", new Uint8Array(sizeBytes));
    const { nonce, userData } = decodeAttestationPayload(encodeCbor(map));
    expect([nonce?.length, userData?.length]).toEqual([sizeBytes, sizeBytes]);
  }); // prettier-ignore

  test("let a time be any whole number above zero that is exact", async () => {
    for (const timestamp of [1, Number.MAX_SAFE_INTEGER])
      expect(decodeAttestationPayload(encodeCbor(new Map(SMALL).set("timestamp", timestamp))).timestampMs).toBe(timestamp);
    for (const timestamp of [0, -1, BigInt(Number.MAX_SAFE_INTEGER) + 1n])
      await expectRefusal(refusalOf(new Map(SMALL).set("timestamp", timestamp)), "E_EVIDENCE_PAYLOAD", /timestamp/);
  }); // prettier-ignore
});

describe("types", () => {
  const VALUES: readonly (readonly [type: string, value: CborValue])[] = [
    ["nothing", null],
    ["a number", 7],
    ["a negative number", -7],
    ["a large number", 2n ** 64n - 1n],
    ["text", "text"],
    ["bytes", new Uint8Array(48)],
    ["a truth", true],
    ["a list", [new Uint8Array(48)]],
    ["a map", new Map([[1, new Uint8Array(48)]])],
    ["a tagged value", { tag: 24, value: new Uint8Array(48) }],
    ["an empty list", []],
    ["an empty map", new Map()],
  ];
  const TAKEN: Readonly<Record<string, readonly string[]>> = {
    module_id: ["text"],
    digest: [],
    timestamp: ["a number"],
    pcrs: ["a map"],
    certificate: ["bytes"],
    cabundle: ["a list"],
    public_key: ["nothing", "bytes"],
    user_data: ["nothing", "bytes"],
    nonce: ["nothing", "bytes"],
  };

  test.each(Object.keys(TAKEN))("of %s are those of the format and no others", async (name) => {
    for (const [type, value] of VALUES) {
      const map = new Map(SMALL).set(name, value);
      if (TAKEN[name]?.includes(type) === true)
        expect(decodeAttestationPayload(encodeCbor(map)).unknownKeys, type).toEqual([]);
      else await expectRefusal(refusalOf(map), "E_EVIDENCE_PAYLOAD", name === "pcrs" ? /pcrs|register/ : name);
    }
  }); // prettier-ignore

  test.each(VALUES)("of the whole: %s is no payload", async (_type, value) => {
    const attempt = async (): Promise<unknown> => decodeAttestationPayload(encodeCbor(value));
    await expectRefusal(attempt(), "E_EVIDENCE_PAYLOAD");
  });

  test("any bytes are a payload, or refused with a code", () => {
    const start = encodeCbor(SMALL);
    const cut = fc.nat({ max: start.length }).map((at) => start.subarray(0, at));
    fc.assert(
      fc.property(cut, bytes(0, 60), (head, rest) => {
        try {
          decodeAttestationPayload(Buffer.concat([head, rest]));
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
          expect(error).toMatchObject({ code: expect.stringMatching(/^E_EVIDENCE_(?:SIZE|ENCODING|PAYLOAD|TPM)$/) });
        }
      }),
      { numRuns: 3000 },
    );
  }); // prettier-ignore
});
