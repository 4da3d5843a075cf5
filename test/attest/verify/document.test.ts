import { generateKeyPairSync } from "node:crypto";
import { Encoder } from "cbor-x";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";

import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import type { ErrorCode } from "../../../core/error-table.ts";
import { KitError } from "../../../core/errors.ts";
import { encodeCbor } from "../../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../../wire/cbor/cbor-value.ts";
import { hex } from "./der-writer.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { AT_MS, type DocumentParts, registers, rootOf, TestAuthority } from "./test-authority.ts";

let ca: TestAuthority;
let chain: readonly Uint8Array[];
let root: string;
beforeAll(() => {
  ca = new TestAuthority();
  chain = ca.chain();
  root = rootOf(chain);
});

async function authenticate(bytes: Uint8Array) {
  return await new DocumentVerifier(createNodeCrypto()).authenticate(bytes, { roots: [root], atMs: AT_MS });
}

async function withParts(parts: DocumentParts) {
  return await authenticate(ca.document({ chain, ...parts }));
}

/** A map of indefinite length, its byte strings in two pieces each. */
function encodeIndefinite(map: ReadonlyMap<string, CborValue>): Uint8Array {
  const items = [...map].flatMap(([key, value]) => [encodeCbor(key), encodePieces(value)]);
  return Buffer.concat([hex("bf"), ...items, hex("ff")]);
}

function encodePieces(value: CborValue): Uint8Array {
  if (value instanceof Uint8Array)
    return Buffer.concat([
      hex("5f"),
      encodeCbor(value.subarray(0, 7)),
      encodeCbor(value.subarray(7)),
      hex("ff"),
    ]);
  if (Array.isArray(value)) return Buffer.concat([hex("9f"), ...value.map(encodePieces), hex("ff")]);
  return encodeCbor(value);
}

describe("a document as NSMs make it", () => {
  test("is accepted, with everything that it says", async () => {
    const user_data = Buffer.from("data");
    const document = await withParts({ entries: { user_data, nonce: hex("00"), public_key: hex("3000") } });
    expect(document).toMatchObject({
      moduleId: "i-0123456789abcdef0-enc0123456789abcdef",
      digest: "SHA384",
      timestampMs: AT_MS - 1000,
      userData: new Uint8Array(user_data),
      nonce: new Uint8Array(1),
      publicKey: Uint8Array.of(0x30, 0),
      unknownKeys: [],
      isDebug: false,
      rootSha256: root,
    });
    expect([...document.pcrs.keys()]).toEqual(Array.from({ length: 16 }, (_item, index) => index));
    expect(document.pcrs.get(4)).toEqual(new Uint8Array(48).fill(0xa4));
  });

  test("is accepted with tag 18 as without", async () => {
    await authenticate(Buffer.concat([hex("d2"), ca.document({ chain })]));
  });

  test("is accepted with missing keys as with null", async () => {
    const without = ["public_key", "user_data", "nonce"];
    const document = await withParts({ without });
    expect(document).toMatchObject({ publicKey: null, userData: null, nonce: null });
  });

  test("is accepted in indefinite lengths", async () => {
    const payload = encodeIndefinite(ca.payload({ chain, entries: { nonce: Buffer.from("longer than 7") } }));
    const { nonce } = await withParts({ payload });
    expect(Buffer.from(nonce ?? []).toString()).toBe("longer than 7");
  });

  test("is accepted with its keys in any order", async () => {
    const payload = encodeCbor(new Map([...ca.payload({ chain })].reverse()));
    await withParts({ payload });
  });

  test("is accepted as another encoder writes it", async () => {
    const encoder = new Encoder({ useRecords: false, tagUint8Array: false, mapsAsObjects: false });
    const map = new Map(ca.payload({ chain })).set("timestamp", BigInt(AT_MS));
    const { timestampMs } = await withParts({ payload: encoder.encode(map) });
    expect(timestampMs).toBe(AT_MS);
  });

  test("may have unknown keys: they are named, and not kept", async () => {
    const entries = { future: new Map([["deep", [1, 2, new Map([[3, null]])]]]), other: 7 };
    const document = await withParts({ entries });
    expect(document.unknownKeys).toEqual(["future", "other"]);
    expect(document).not.toHaveProperty("future");
  });

  test("may have other headers, unprotected ones too, which say nothing", async () => {
    await withParts({ protectedHeader: hex("a20138220442abcd") });
    await withParts({ unprotected: new Map([[4, hex("ab")]]) });
  });

  test("may have the greater s in its signature", async () => {
    const order = BigInt(
      "0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    );
    const signature = (genuine: Uint8Array): Uint8Array => {
      const s = order - BigInt(`0x${Buffer.from(genuine.subarray(48)).toString("hex")}`);
      return Buffer.concat([genuine.subarray(0, 48), hex(s.toString(16).padStart(96, "0"))]);
    };
    await withParts({ signature });
  });

  test("may have 1 to 32 registers of 32, 48 or 64 bytes", async () => {
    await withParts({ entries: { pcrs: new Map([[31, new Uint8Array(64).fill(1)]]) } });
    const all = Array.from({ length: 32 }, (_item, index): [number, Uint8Array] => [
      index,
      new Uint8Array(32),
    ]);
    await withParts({ entries: { pcrs: new Map(all) } });
  });

  test("is that of a debug enclave where a register of the image is zero or absent", async () => {
    const zero = new Uint8Array(48);
    expect((await withParts({ entries: { pcrs: registers({ 0: zero, 1: zero, 2: zero }) } })).isDebug).toBe(
      true,
    );
    expect((await withParts({ entries: { pcrs: registers({ 0: zero }) } })).isDebug).toBe(true);
    expect((await withParts({ entries: { pcrs: new Map([[4, zero]]) } })).isDebug).toBe(true);
  });

  test("is read before the caller can change it", async () => {
    const bytes = new Uint8Array(ca.document({ chain, entries: { nonce: hex("aabb") } }));
    const verdict = authenticate(bytes);
    bytes.fill(0);
    expect((await verdict).nonce).toEqual(Uint8Array.of(0xaa, 0xbb));
  });
});

describe("a message that is none", () => {
  const nothing = new Uint8Array();
  const header = hex("a1013822");
  const big = new Uint8Array(20 * 1024 + 1);
  const nest = (depth: number): Uint8Array => Buffer.concat([Buffer.alloc(depth, 0x81), hex("00")]);

  test.each<[what: string, bytes: Uint8Array, code: ErrorCode]>([
    ["nothing", nothing, "E_EVIDENCE_SIZE"],
    ["more than 20 KiB", big, "E_EVIDENCE_SIZE"],
    ["text", Buffer.from("hEShATgi"), "E_EVIDENCE_ENCODING"],
    ["a floating point number", hex("fb3ff0000000000000"), "E_EVIDENCE_ENCODING"],
    ["a string that says it has 2^63 bytes", hex("845b8000000000000000"), "E_EVIDENCE_ENCODING"],
    ["a list that says it has 2^64 - 1 items", hex("9bffffffffffffffff"), "E_EVIDENCE_ENCODING"],
    ["lists 10,000 deep", nest(10_000), "E_EVIDENCE_ENCODING"],
    ["tags 10,000 deep", Buffer.concat([Buffer.alloc(10_000, 0xd2), hex("00")]), "E_EVIDENCE_ENCODING"],
    ["20,000 items", Buffer.concat([hex("994e20"), Buffer.alloc(20_000)]), "E_EVIDENCE_ENCODING"],
    ["a break", hex("ff"), "E_EVIDENCE_ENCODING"],
    ["a number", hex("00"), "E_EVIDENCE_COSE"],
    ["a map", hex("a0"), "E_EVIDENCE_COSE"],
    ["three parts", encodeCbor([header, new Map(), nothing]), "E_EVIDENCE_COSE"],
    ["five parts", encodeCbor([header, new Map(), nothing, nothing, nothing]), "E_EVIDENCE_COSE"],
    [
      "a header that is a map",
      encodeCbor([new Map([[1, -35]]), new Map(), nothing, nothing]),
      "E_EVIDENCE_COSE",
    ],
    ["a header that holds a list", encodeCbor([hex("80"), new Map(), nothing, nothing]), "E_EVIDENCE_COSE"],
    ["a header that is no CBOR", encodeCbor([hex("a1"), new Map(), nothing, nothing]), "E_EVIDENCE_ENCODING"],
    [
      "a header of 257 bytes",
      encodeCbor([new Uint8Array(257), new Map(), nothing, nothing]),
      "E_EVIDENCE_COSE",
    ],
    ["no algorithm", encodeCbor([hex("a0"), new Map(), nothing, nothing]), "E_EVIDENCE_COSE"],
    ["no header at all", encodeCbor([nothing, new Map(), nothing, nothing]), "E_EVIDENCE_COSE"],
    [
      "an algorithm twice",
      encodeCbor([hex("a20138220126"), new Map(), nothing, nothing]),
      "E_EVIDENCE_ENCODING",
    ],
    ["critical headers", encodeCbor([hex("a2013822028104"), new Map(), nothing, nothing]), "E_EVIDENCE_COSE"],
    ["an unprotected list", encodeCbor([header, [], nothing, nothing]), "E_EVIDENCE_COSE"],
    [
      "an algorithm that is not protected",
      encodeCbor([header, new Map([[1, -35]]), nothing, nothing]),
      "E_EVIDENCE_COSE",
    ],
    ["a payload of null", encodeCbor([header, new Map(), null, nothing]), "E_EVIDENCE_COSE"],
    ["a payload that is text", encodeCbor([header, new Map(), "a", nothing]), "E_EVIDENCE_COSE"],
    ["a signature that is a list", encodeCbor([header, new Map(), nothing, []]), "E_EVIDENCE_COSE"],
    ["an empty payload", encodeCbor([header, new Map(), nothing, nothing]), "E_EVIDENCE_SIZE"],
    [
      "a payload above 16 KiB",
      encodeCbor([header, new Map(), new Uint8Array(16_385), nothing]),
      "E_EVIDENCE_SIZE",
    ],
    ["a payload that is a list", encodeCbor([header, new Map(), hex("80"), nothing]), "E_EVIDENCE_PAYLOAD"],
    ["a payload 100 deep", encodeCbor([header, new Map(), nest(100), nothing]), "E_EVIDENCE_ENCODING"],
  ])("%s", async (_what, bytes, code) => {
    await expectRefusal(authenticate(bytes), code);
  });

  test("another tag, or the tag twice", async () => {
    const document = ca.document({ chain });
    await expectRefusal(authenticate(Buffer.concat([hex("d1"), document])), "E_EVIDENCE_COSE");
    await expectRefusal(authenticate(Buffer.concat([hex("d2d2"), document])), "E_EVIDENCE_COSE");
  });

  test("bytes after its end", async () => {
    await expectRefusal(
      authenticate(Buffer.concat([ca.document({ chain }), hex("00")])),
      "E_EVIDENCE_ENCODING",
      /after/,
    );
    const payload = Buffer.concat([encodeCbor(ca.payload({ chain })), hex("00")]);
    await expectRefusal(withParts({ payload }), "E_EVIDENCE_ENCODING", /after/);
  });

  test.each([-7, -36, -1, -37, 5, "ES384"])("algorithm %s", async (algorithm) => {
    const protectedHeader = encodeCbor(new Map([[1, algorithm]]));
    await expectRefusal(withParts({ protectedHeader }), "E_EVIDENCE_ALGORITHM", String(algorithm));
  });
});

describe("a payload that is none", () => {
  const key = new Uint8Array(1025);
  const cert = new Uint8Array([1]);

  test.each<[what: string, entries: Readonly<Record<string, CborValue>>, message: RegExp | string]>([
    ["an empty module_id", { module_id: "" }, "module_id"],
    ["a module_id of bytes", { module_id: hex("61") }, "module_id"],
    ["another digest", { digest: "SHA256" }, "SHA256"],
    ["a digest of null", { digest: null }, "digest"],
    ["a timestamp of zero", { timestamp: 0 }, "timestamp"],
    ["a timestamp below zero", { timestamp: -1 }, "timestamp"],
    ["a timestamp above 2^53", { timestamp: 2n ** 63n }, "timestamp"],
    ["a timestamp as text", { timestamp: "2026" }, "timestamp"],
    ["a tagged timestamp", { timestamp: { tag: 1, value: 1_700_000_000 } }, "timestamp"],
    ["no registers", { pcrs: new Map() }, "pcrs"],
    ["a list of registers", { pcrs: [new Uint8Array(48)] }, "pcrs"],
    ["register 32", { pcrs: new Map([[32, new Uint8Array(48)]]) }, "register"],
    ["register -1", { pcrs: new Map([[-1, new Uint8Array(48)]]) }, "register"],
    ["a register by name", { pcrs: new Map([["0", new Uint8Array(48)]]) }, "register"],
    ["a register of 47 bytes", { pcrs: new Map([[0, new Uint8Array(47)]]) }, "register 0"],
    ["a register of text", { pcrs: new Map([[0, "0".repeat(48)]]) }, "register 0"],
    ["an empty certificate", { certificate: new Uint8Array() }, "certificate"],
    ["a certificate of 1025 bytes", { certificate: key }, "1025"],
    ["a certificate of text", { certificate: "MII" }, "certificate"],
    ["an empty cabundle", { cabundle: [] }, "0 certificates"],
    ["a cabundle of 17", { cabundle: Array.from({ length: 17 }, () => cert) }, "17 certificates"],
    ["a cabundle that is a map", { cabundle: new Map([[0, cert]]) }, "cabundle"],
    ["an empty certificate in the cabundle", { cabundle: [new Uint8Array()] }, /cabundle\[0\]/],
    ["a giant certificate in the cabundle", { cabundle: [new Uint8Array(12_000)] }, "12000"],
    ["a number in the cabundle", { cabundle: [1] }, /cabundle\[0\]/],
    ["an empty public_key", { public_key: new Uint8Array() }, "public_key"],
    ["a public_key of 1025 bytes", { public_key: key }, "public_key"],
    ["a public_key of text", { public_key: "key" }, "public_key"],
    ["user_data of text", { user_data: "data" }, "user_data"],
    ["a nonce of false", { nonce: false }, "nonce"],
    ["a nonce of a number", { nonce: 7 }, "nonce"],
  ])("%s", async (_what, entries, message) => {
    await expectRefusal(withParts({ entries }), "E_EVIDENCE_PAYLOAD", message);
  });

  test.each(["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"])(
    "%s missing",
    async (name) => {
      await expectRefusal(withParts({ without: [name] }), "E_EVIDENCE_PAYLOAD", name);
    },
  );

  test.each<[what: string, extra: string]>([
    ["a key", "656e6f6e636541aa"],
    ["a key in another length", "78056e6f6e636541aa"],
  ])("%s twice", async (_what, extra) => {
    const map = encodeCbor(ca.payload({ chain }));
    const payload = Buffer.concat([Buffer.from([(map[0] ?? 0) + 1]), map.subarray(1), hex(extra)]);
    await expectRefusal(withParts({ payload }), "E_EVIDENCE_ENCODING", /twice/);
  });

  test("a register twice", async () => {
    const pcrs = Buffer.concat([
      hex("a2"),
      hex("005830"),
      Buffer.alloc(48),
      hex("18005830"),
      Buffer.alloc(48, 1),
    ]);
    const map = ca.payload({ chain, without: ["pcrs"] });
    const start = encodeCbor(map);
    const payload = Buffer.concat([
      Buffer.from([(start[0] ?? 0) + 1]),
      start.subarray(1),
      encodeCbor("pcrs"),
      pcrs,
    ]);
    await expectRefusal(withParts({ payload }), "E_EVIDENCE_ENCODING", /twice/);
  });

  test("a timestamp in floating point, as some encoders write it", async () => {
    const map = ca.payload({ chain, without: ["timestamp"] });
    const start = encodeCbor(map);
    const stamp = Buffer.concat([encodeCbor("timestamp"), hex("fb4279b8f9ddc71000")]);
    const payload = Buffer.concat([Buffer.from([(start[0] ?? 0) + 1]), start.subarray(1), stamp]);
    await expectRefusal(withParts({ payload }), "E_EVIDENCE_ENCODING", /floating/);
  });

  test("10,000 certificates", async () => {
    const cabundle = Array.from({ length: 10_000 }, () => cert);
    await expectRefusal(withParts({ entries: { cabundle } }), "E_EVIDENCE_SIZE");
    const short = Array.from({ length: 7000 }, () => cert);
    await expectRefusal(withParts({ entries: { cabundle: short } }), "E_EVIDENCE_ENCODING", /items/);
  });

  test("that of a NitroTPM", async () => {
    const entries = { nitrotpm_pcrs: registers() };
    await expectRefusal(withParts({ entries, without: ["pcrs"] }), "E_EVIDENCE_TPM", /NitroTPM/);
    await expectRefusal(withParts({ entries }), "E_EVIDENCE_TPM");
  });
});

describe("a signature that does not hold", () => {
  test("by another key of the chain, or of nobody", async () => {
    const stranger = generateKeyPairSync("ec", { namedCurve: "P-384" });
    for (const { privateKey } of [ca.keys.instance, stranger])
      await expectRefusal(withParts({ signedBy: privateKey }), "E_EVIDENCE_SIGNATURE");
  });

  test.each<[what: string, signature: (genuine: Uint8Array) => Uint8Array]>([
    ["none", () => new Uint8Array()],
    ["zeros, as QEMU's own NSM has", () => new Uint8Array(96)],
    ["r of zero", (genuine) => Buffer.concat([new Uint8Array(48), genuine.subarray(48)])],
    ["s of zero", (genuine) => Buffer.concat([genuine.subarray(0, 48), new Uint8Array(48)])],
    ["r above the order", (genuine) => Buffer.concat([Buffer.alloc(48, 0xff), genuine.subarray(48)])],
    ["a byte too few", (genuine) => genuine.subarray(1)],
    ["a byte too many", (genuine) => Buffer.concat([genuine, hex("00")])],
    ["r and s swapped", (genuine) => Buffer.concat([genuine.subarray(48), genuine.subarray(0, 48)])],
  ])("%s", async (_what, signature) => {
    await expectRefusal(withParts({ signature }), "E_EVIDENCE_SIGNATURE");
  });

  test("is not left to a library where a number in it is none that a signature can have", async () => {
    const trusting = {
      sha256: (bytes: Uint8Array) => createNodeCrypto().sha256(bytes),
      verifyEs384: () => true,
    };
    const verifier = new DocumentVerifier(trusting);
    const anchor = { roots: [root], atMs: AT_MS };
    const [zero, one] = [new Uint8Array(48), new Uint8Array(48).fill(1)];
    for (const signature of [
      new Uint8Array(96),
      Buffer.concat([zero, one]),
      Buffer.concat([one, zero]),
      new Uint8Array(96).fill(0xff),
      new Uint8Array(95).fill(1),
      new Uint8Array(),
    ])
      await expectRefusal(
        verifier.authenticate(ca.document({ chain, signature: () => signature }), anchor),
        "E_EVIDENCE_SIGNATURE",
      );
    await verifier.authenticate(ca.document({ chain }), anchor);
  });

  test("over another header than the one that came", async () => {
    const document = ca.document({ chain, protectedHeader: hex("a20138220442abcd") });
    const at = document.indexOf(hex("abcd"));
    document.writeUInt16BE(0xabce, at);
    await expectRefusal(authenticate(document), "E_EVIDENCE_SIGNATURE");
  });
});

describe("any bytes", () => {
  const verdict = async (verifier: DocumentVerifier, bytes: Uint8Array): Promise<"authentic" | "refused"> => {
    try {
      await verifier.authenticate(bytes, { roots: [root], atMs: AT_MS });
      return "authentic";
    } catch (error) {
      if (error instanceof KitError && error.code.startsWith("E_EVIDENCE_")) return "refused";
      throw error;
    }
  };

  test("are refused with a code, and nothing else comes of them", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        expect(await verdict(verifier, bytes)).toBe("refused");
      }),
      { numRuns: 2000 },
    );
  });

  test("in the place of the payload or a certificate are refused with a code", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    const place = fc.constantFrom("payload", "leaf", "zonal");
    await fc.assert(
      fc.asyncProperty(place, fc.uint8Array({ minLength: 1, maxLength: 900 }), async (where, bytes) => {
        const [first = bytes, second = bytes, third = bytes, fourth = bytes, leaf = bytes] = chain;
        const other =
          where === "leaf" ? [first, second, third, fourth, bytes] : [first, second, bytes, fourth, leaf];
        const parts = where === "payload" ? { payload: bytes } : { chain: other };
        expect(await verdict(verifier, ca.document(parts))).toBe("refused");
      }),
      { numRuns: 300 },
    );
  });

  // Changed bytes and cuts: every-byte.test.ts.
  test("every doubled byte is refused", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    const document = new Uint8Array(ca.document({ chain }));
    for (let at = 0; at < document.length; at += 3) {
      const doubled = Buffer.concat([document.subarray(0, at + 1), document.subarray(at)]);
      expect(await verdict(verifier, doubled)).toBe("refused");
    }
  });
});
