/** Documents that somebody made to break their reader: a verdict or a coded refusal each, and no memory for what is only claimed. */
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";

import type { AttestationPolicy } from "../../../attest/verify/attestation-policy.ts";
import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import type { ErrorCode } from "../../../core/error-table.ts";
import { KitError } from "../../../core/errors.ts";
import { createDocumentCases } from "../../../scripts/attestation-fuzz/document-cases.ts";
import { RandomSource } from "../../../scripts/vsock-fuzz/random-source.ts";
import { MAX_CERTIFICATE_BYTES } from "../../../wire/attestation-document.ts";
import { encodeCbor } from "../../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../../wire/cbor/cbor-value.ts";
import { DER_TAG, DerError, readDer } from "../../../wire/der/der-reader.ts";
import { authenticOrNull } from "./byte-changes.ts";
import {
  authority,
  commonName,
  der,
  extension,
  hex,
  MAY_SIGN_CERTIFICATES,
  MAY_SIGN_DATA,
  NO_AUTHORITY,
  sequence,
} from "./der-writer.ts";
import { expectRefusal } from "./expect-refusal.ts";
import {
  AT_MS,
  type CertificateParts,
  type DocumentParts,
  type Level,
  rootOf,
  TestAuthority,
} from "./test-authority.ts";

let ca: TestAuthority;
let chain: readonly Uint8Array[];
beforeAll(() => {
  ca = new TestAuthority();
  chain = ca.chain();
});

const MIB = 1024 * 1024;

async function authenticate(bytes: Uint8Array, by: readonly Uint8Array[] = chain) {
  const verifier = new DocumentVerifier(createNodeCrypto());
  return await verifier.authenticate(bytes, { roots: [rootOf(by)], atMs: AT_MS });
}

async function withParts(parts: DocumentParts) {
  return await authenticate(ca.document({ chain, ...parts }), parts.chain ?? chain);
}

async function withCertificate(level: Level, parts: CertificateParts) {
  return await withParts({ chain: ca.chain({ [level]: parts }) });
}

/** What was allocated outside of the heap by work that is over when it returns. */
async function allocatedBytes(work: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage().arrayBuffers;
  await work();
  return process.memoryUsage().arrayBuffers - before;
}

/** Elements within one another, each of 2 to 4 bytes. */
function nestDer(tag: number, depth: number): Buffer {
  let bytes: Buffer = Buffer.alloc(0);
  for (let level = 0; level < depth; level += 1) bytes = der(tag, bytes);
  return bytes;
}

describe("lengths that lie", () => {
  // Of byte strings, text, lists and maps, from a little more than there is to more than any memory holds.
  const lengths = ["5900ff", "5a00100000", "5a7fffffff", "5affffffff", "5b0000000100000000", "5b001fffffffffffff", "5bffffffffffffffff"]; // prettier-ignore
  const claims = [2, 3, 4, 5].flatMap((major) =>
    lengths.map((length) => {
      const head = hex(length);
      head[0] = (major << 5) | ((head[0] ?? 0) & 31);
      return head;
    }),
  );

  test("in the place of any part of a message are refused before anything is allocated", async () => {
    const parts = [hex("43a10126"), hex("a0"), hex("4100"), hex("4100")];
    const grown = await allocatedBytes(async () => {
      for (const at of parts.keys())
        for (const claim of claims) {
          const message = Buffer.concat([hex("84"), ...parts.slice(0, at), claim]);
          await expectRefusal(authenticate(message), "E_EVIDENCE_ENCODING");
        }
    });
    expect(grown).toBeLessThan(16 * MIB);
  });

  test.each(["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce", "other"])("in the place of %s are refused before anything is allocated", async (name) => {
      const rest = ca.payload({ chain, without: [name] });
      const grown = await allocatedBytes(async () => {
        for (const claim of claims) {
          const start = encodeCbor(rest);
          const count = Buffer.of((start[0] ?? 0) + 1);
          const payload = Buffer.concat([count, start.subarray(1), encodeCbor(name), claim]);
          await expectRefusal(withParts({ payload }), "E_EVIDENCE_ENCODING");
        }
      });
      expect(grown).toBeLessThan(16 * MIB);
    }); // prettier-ignore

  test("in a certificate are refused before anything is allocated", async () => {
    const ends = ["8200ff", "830fffff", "847fffffff", "84ffffffff", "88ffffffffffffffff", "ff"];
    const grown = await allocatedBytes(async () => {
      for (const end of ends)
        for (const tag of ["30", "04", "02", "03", "a0"])
          for (const level of ["root", "leaf"] as const)
            await expectRefusal(
              withCertificate(level, { subject: hex(tag + end) }),
              "E_EVIDENCE_CERTIFICATE",
            );
    });
    expect(grown).toBeLessThan(16 * MIB);
  });
});

describe("bundles", () => {
  test("of 10,000 whole certificates are refused by their size, and not copied", async () => {
    const cabundle = Array.from({ length: 10_000 }, (_item, index) => chain[index % 4] ?? null);
    const document = ca.document({ entries: { cabundle } });
    expect(document.length).toBeGreaterThan(3 * MIB);
    const grown = await allocatedBytes(async () => {
      await expectRefusal(authenticate(document), "E_EVIDENCE_SIZE", String(document.length));
    });
    expect(grown).toBeLessThan(document.length);
  });

  test("of a quarter of a gibibyte are refused by their size", async () => {
    const document = new Uint8Array(256 * MIB);
    const grown = await allocatedBytes(async () => {
      await expectRefusal(authenticate(document), "E_EVIDENCE_SIZE");
    });
    expect(grown).toBeLessThan(16 * MIB);
  });

  test("of 10,000 empty ones, in any form, are refused", async () => {
    const rest = encodeCbor(ca.payload({ chain, without: ["cabundle"] }));
    const count = Buffer.of((rest[0] ?? 0) + 1);
    const lists = [
      Buffer.concat([hex("992710"), Buffer.alloc(10_000, 0x40)]),
      Buffer.concat([hex("9f"), Buffer.alloc(10_000, 0x40), hex("ff")]),
      Buffer.concat([hex("5f"), Buffer.alloc(10_000, 0x40), hex("ff")]),
    ];
    for (const list of lists) {
      const payload = Buffer.concat([count, rest.subarray(1), encodeCbor("cabundle"), list]);
      await expectRefusal(withParts({ payload }), "E_EVIDENCE_ENCODING", /items/);
    }
  });

  test("of sixteen are read, and of no more", async () => {
    const [root = new Uint8Array(), ...others] = chain;
    const cabundle = [root, ...Array.from({ length: 15 }, () => others[0] ?? root)];
    // They do not fit together, but they are looked at.
    await expectRefusal(withParts({ entries: { cabundle } }), "E_EVIDENCE_CHAIN");
    await expectRefusal(
      withParts({ entries: { cabundle: [...cabundle, root] } }),
      "E_EVIDENCE_PAYLOAD",
      /17/,
    );
  });

  test("with one certificate again and again are refused", async () => {
    const [root = new Uint8Array(), regional = root, zonal = root, instance = root, leaf = root] = chain;
    for (const twice of [
      [root, regional, regional, zonal, instance, leaf],
      [root, regional, zonal, instance, leaf, leaf],
      [root, regional, zonal, instance, instance, leaf],
      [leaf, leaf],
      [root, root],
    ])
      await expectRefusal(withParts({ chain: twice }), "E_EVIDENCE_CHAIN");
    // A root did sign itself.
    const { rootSha256 } = await withParts({ chain: [root, ...chain] });
    expect(rootSha256).toBe(rootOf(chain));
  });
});

describe("certificates", () => {
  /** A leaf with an extension that makes it as long as it is to be. */
  const leafOf = (sizeBytes: number): CertificateParts => {
    const leafWith = (valueBytes: number): CertificateParts => ({
      extensions: [NO_AUTHORITY, MAY_SIGN_DATA, extension("2a0304", new Uint8Array(valueBytes))],
    });
    // Signatures differ in length by a byte or two.
    for (;;) {
      const least = ca.certificate("leaf", "instance", leafWith(300)).length;
      const parts = leafWith(300 + sizeBytes - least);
      const made = ca.certificate("leaf", "instance", parts);
      if (made.length === sizeBytes) return { whole: () => Buffer.from(made) };
    }
  };

  test("may have an extension that fills them up to 1024 bytes, and no byte more", async () => {
    await withCertificate("leaf", leafOf(MAX_CERTIFICATE_BYTES));
    await expectRefusal(
      withCertificate("leaf", leafOf(MAX_CERTIFICATE_BYTES + 1)),
      "E_EVIDENCE_PAYLOAD",
      /1025/,
    );
  });

  test.each<[sizeBytes: number, code: ErrorCode]>([
    [12_000, "E_EVIDENCE_PAYLOAD"],
    [16_000, "E_EVIDENCE_SIZE"],
    [60_000, "E_EVIDENCE_SIZE"],
  ])("with an extension of %i bytes are refused: %s", async (sizeBytes, code) => {
    const giant = extension("2a0304", new Uint8Array(sizeBytes));
    await expectRefusal(withCertificate("leaf", { extensions: [NO_AUTHORITY, MAY_SIGN_DATA, giant] }), code);
  });

  test("may have as many small extensions as fit, but none of them twice", async () => {
    const small = Array.from({ length: 50 }, (_item, index) => extension(`2a03${(index + 1).toString(16).padStart(2, "0")}`, hex(""))); // prettier-ignore
    await withCertificate("leaf", { extensions: [NO_AUTHORITY, MAY_SIGN_DATA, ...small] });
    const twice = [NO_AUTHORITY, MAY_SIGN_DATA, ...small, extension("2a0310", hex(""))];
    await expectRefusal(withCertificate("leaf", { extensions: twice }), "E_EVIDENCE_CERTIFICATE", /twice/);
  });

  test.each([13, 40, 150])("with sequences %i deep anywhere are refused", async (depth) => {
    const deep = nestDer(DER_TAG.sequence, depth);
    const places: readonly CertificateParts[] = [
      { subject: deep },
      { serial: deep },
      { notAfter: deep },
      { spki: deep },
      { extensionsField: der(0xa3, deep) },
      { extensions: [NO_AUTHORITY, MAY_SIGN_DATA, deep] },
      { signature: () => deep },
      { whole: () => deep },
      { extensions: [extension("551d13", deep, true), MAY_SIGN_DATA] },
      { extensions: [NO_AUTHORITY, extension("551d0f", deep)] },
    ];
    for (const parts of places) await expectRefusal(withCertificate("leaf", parts), "E_EVIDENCE_CERTIFICATE");
    await expectRefusal(withCertificate("instance", { issuer: deep }), "E_EVIDENCE_CERTIFICATE");
  });

  test("that hold what nobody reads are not refused for it, however it looks", async () => {
    for (const value of [nestDer(DER_TAG.sequence, 120), hex("30847fffffff"), hex("3080"), hex("ff")])
      await withCertificate("leaf", {
        extensions: [NO_AUTHORITY, MAY_SIGN_DATA, extension("2a0304", value)],
      });
  });

  test("with a name that is none are refused, and one that is only odd is told", async () => {
    const odd = sequence(der(DER_TAG.set, sequence(hex("06032a0304"), der(0x1e, hex("d800")))));
    const long = commonName("x".repeat(400));
    for (const subject of [sequence(), odd, long, commonName("\u001b[2J\u0000\ufeff\u202e")]) {
      const document = await withCertificate("leaf", { subject });
      expect(document.chain.at(-1)?.subject.length).toBeLessThanOrEqual(300);
    }
    for (const subject of [
      sequence(hex("0500")),
      sequence(sequence()),
      sequence(der(DER_TAG.set, hex("0c0161"))),
    ])
      await expectRefusal(withCertificate("leaf", { subject }), "E_EVIDENCE_CERTIFICATE");
  });

  test("of which each is trusted by a path length, cannot be stretched by a loop of names", async () => {
    // All of them have one name and one key, so that each could have signed each.
    const name = commonName("same");
    const spki = ca.spki("root");
    const link = (extensions: readonly Uint8Array[]): Uint8Array =>
      ca.certificate("regional", "root", { issuer: name, subject: name, spki, extensions });
    const above = [authority(0), MAY_SIGN_CERTIFICATES];
    const leaf = link([NO_AUTHORITY, MAY_SIGN_DATA]);
    const { root: keys } = ca.keys;
    const short = [link(above), leaf];
    await withParts({ chain: short, signedBy: keys.privateKey });
    const long = [link(above), link(above), leaf];
    await expectRefusal(
      withParts({ chain: long, signedBy: keys.privateKey }),
      "E_EVIDENCE_CHAIN",
      /authorities below/,
    );
  });
});

describe("DER", () => {
  test("a mebibyte of elements within one another is refused, and no stack is used up", () => {
    for (const unit of ["30847fffffff", "3080", "30", "a083100000", "a004"]) {
      const bytes = Buffer.alloc(MIB, hex(unit));
      expect(() => readDer(bytes)).toThrow(DerError);
    }
    expect(() => readDer(nestDer(DER_TAG.sequence, 5000))).toThrow(/deeper than 12/);
    expect(readDer(nestDer(DER_TAG.sequence, 13)).children).toHaveLength(1);
  });

  test("any bytes give an element that is all of them, or a DerError", () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 12 }),
      fc.constantFrom("3000", "3080", "0101ff", "020100", "0500", "a003020102", "0603551d13", "0402", "1f81").map(hex), // prettier-ignore
    );
    let read = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), (pieces, isWrapped) => {
        const bytes = isWrapped ? sequence(...pieces) : Buffer.concat(pieces);
        try {
          const element = readDer(bytes);
          read += 1;
          expect(element.bytes).toEqual(new Uint8Array(bytes));
          const inner = element.children.reduce((sum, child) => sum + child.bytes.length, 0);
          if (element.children.length > 0) expect(inner).toBe(element.content.length);
        } catch (error) {
          expect(error).toBeInstanceOf(DerError);
        }
      }),
      { numRuns: 3000 },
    );
    expect(read).toBeGreaterThan(100);
  });
});

describe("CBOR", () => {
  const rest = (name: string): Buffer => {
    const map = encodeCbor(ca.payload({ chain, without: [name] }));
    return Buffer.concat([Buffer.of((map[0] ?? 0) + 1), map.subarray(1), encodeCbor(name)]);
  };

  test.each<[what: string, unit: string]>([
    ["lists", "81"],
    ["lists of indefinite length", "9f"],
    ["maps", "a100"],
    ["maps of indefinite length", "bf00"],
    ["tags", "c0"],
    ["tags of eight bytes", "dbffffffffffffffff"],
    ["strings of strings", "5f"],
  ])("%s 10,000 deep anywhere are refused", async (_what, unit) => {
    const deep = Buffer.alloc(10_000, hex(unit));
    for (const name of ["pcrs", "cabundle", "nonce", "later"])
      await expectRefusal(withParts({ payload: Buffer.concat([rest(name), deep]) }), "E_EVIDENCE_ENCODING");
    await expectRefusal(authenticate(deep), "E_EVIDENCE_ENCODING");
    await expectRefusal(authenticate(Buffer.concat([hex("8440"), deep])), "E_EVIDENCE_ENCODING");
    await expectRefusal(withParts({ protectedHeader: deep }), "E_EVIDENCE_COSE", /10000 bytes/);
    await expectRefusal(withParts({ protectedHeader: deep.subarray(0, 256) }), "E_EVIDENCE_ENCODING");
  });

  test.each<[what: string, parts: DocumentParts, code: ErrorCode]>([
    ["a protected header with a byte after it", { protectedHeader: hex("a101382200") }, "E_EVIDENCE_ENCODING"],
    ["a protected header cut off", { protectedHeader: hex("a10138") }, "E_EVIDENCE_ENCODING"],
    ["a protected header of two lengths for one key", { protectedHeader: hex("a2013822180126") }, "E_EVIDENCE_ENCODING"],
    ["an algorithm of null", { protectedHeader: hex("a101f6") }, "E_EVIDENCE_COSE"],
    ["an algorithm of bytes", { protectedHeader: hex("a1014122") }, "E_EVIDENCE_COSE"],
    ["an algorithm in a list", { protectedHeader: hex("a101813822") }, "E_EVIDENCE_COSE"],
    ["an algorithm under the text 1", { protectedHeader: hex("a161313822") }, "E_EVIDENCE_COSE"],
    ["an algorithm of 64 bits", { protectedHeader: hex("a1013bffffffffffffffff") }, "E_EVIDENCE_ALGORITHM"],
    ["unprotected bytes that hold a map", { unprotected: hex("a0") }, "E_EVIDENCE_COSE"],
    ["a tagged unprotected map", { unprotected: { tag: 18, value: new Map() } }, "E_EVIDENCE_COSE"],
    ["a payload that is text", { payload: encodeCbor("payload") }, "E_EVIDENCE_PAYLOAD"],
    ["a payload in a list", { payload: hex("81a0") }, "E_EVIDENCE_PAYLOAD"],
    ["a payload that is a message", { payload: hex("8443a10122a04040") }, "E_EVIDENCE_PAYLOAD"],
  ])("%s is refused", async (_what, parts, code) => {
    await expectRefusal(withParts(parts), code);
  }); // prettier-ignore

  test("a tagged payload is none, whatever the tag", async () => {
    for (const tag of [18, 24, 55_799]) {
      const payload = encodeCbor({ tag, value: ca.payload({ chain }) });
      await expectRefusal(withParts({ payload }), "E_EVIDENCE_PAYLOAD", /no map/);
    }
  });

  test("a key twice is refused at any depth", async () => {
    const twice = hex("a2 6161 00 6161 01");
    for (const value of [twice, Buffer.concat([hex("81"), twice]), Buffer.concat([hex("c1"), twice])])
      await expectRefusal(
        withParts({ payload: Buffer.concat([rest("later"), value]) }),
        "E_EVIDENCE_ENCODING",
        /twice/,
      );
    const message = ca.document({ chain });
    const at = message.indexOf(hex("a0"));
    const unprotected = Buffer.concat([message.subarray(0, at), hex("a204000401"), message.subarray(at + 1)]);
    await expectRefusal(authenticate(unprotected), "E_EVIDENCE_ENCODING", /twice/);
  });

  test("a thousand unknown keys are refused, and a hundred are named", async () => {
    const keys = (count: number): Readonly<Record<string, CborValue>> =>
      Object.fromEntries(Array.from({ length: count }, (_item, index) => [`key ${index}`, null]));
    expect((await withParts({ entries: keys(100) })).unknownKeys).toHaveLength(100);
    await expectRefusal(withParts({ entries: keys(1000) }), "E_EVIDENCE_ENCODING", /items/);
  });

  test("names of JavaScript's own are keys like others", async () => {
    const names = ["__proto__", "constructor", "toString", "prototype"];
    const payload = ca.payload({ chain });
    for (const name of names) payload.set(name, new Map([["isDebug", false]]));
    const { unknownKeys } = await withParts({ payload: encodeCbor(payload) });
    expect(unknownKeys).toEqual(names);
    payload.delete("nonce");
    expect((await withParts({ payload: encodeCbor(payload) })).nonce).toBeNull();
  });
});

describe("nonces", () => {
  const verify = async (nonce: Uint8Array | null, wanted: Uint8Array) => {
    const policy = { roots: [rootOf(chain)], nonce: wanted };
    const document = ca.document({ chain, entries: { nonce } });
    return await new DocumentVerifier(createNodeCrypto()).verify(document, policy, AT_MS);
  };

  test.each([1, 512, 513, 1024, 1025, 8192])("of %i bytes hold where all of them are the same", async (sizeBytes) => {
    const nonce = new Uint8Array(sizeBytes).fill(7);
    expect((await verify(nonce, nonce)).nonce).toEqual(nonce);
    for (const at of new Set([0, sizeBytes >> 1, sizeBytes - 1])) {
      const other = nonce.with(at, 8);
      await expectRefusal(verify(other, nonce), "E_UNMET_NONCE");
    }
    await expectRefusal(verify(nonce, new Uint8Array([...nonce, 7])), "E_UNMET_NONCE");
    await expectRefusal(verify(null, nonce), "E_UNMET_NONCE", /none/);
  }); // prettier-ignore

  test("of no bytes are no answer to one that was sent, and cannot be sent", async () => {
    expect((await withParts({ entries: { nonce: new Uint8Array() } })).nonce).toEqual(new Uint8Array());
    await expectRefusal(verify(new Uint8Array(), hex("00")), "E_UNMET_NONCE");
    await expect(verify(new Uint8Array(), new Uint8Array())).rejects.toThrow(RangeError);
  });

  test("that do not fit into a payload are refused with it", async () => {
    await expectRefusal(verify(new Uint8Array(16 * 1024), hex("00")), "E_EVIDENCE_SIZE");
  });

  test("that are long are not repeated in full by a refusal", async () => {
    const error = await verify(new Uint8Array(8192), new Uint8Array(8192).fill(1)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(KitError);
    expect(String(error).length).toBeLessThan(500);
  }); // prettier-ignore
});

describe("anything", () => {
  const KEYS = ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce", "nitrotpm_pcrs"]; // prettier-ignore
  const { anyValue } = fc.letrec<{ anyValue: CborValue }>((tie) => ({
    anyValue: fc.oneof(
      { maxDepth: 3, depthSize: "small" },
      fc.integer(),
      fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }),
      fc.string({ unit: "binary", maxLength: 8 }),
      fc.constantFrom<CborValue>(null, true, false, "SHA384", 1, 0),
      fc.uint8Array({ maxLength: 70 }),
      fc.constantFrom(32, 48, 64, 1025).map((sizeBytes) => new Uint8Array(sizeBytes)),
      fc.array(tie("anyValue"), { maxLength: 4 }),
      fc
        .array(fc.tuple(fc.oneof(fc.integer({ min: -1, max: 33 }), fc.string()), tie("anyValue")), { maxLength: 4 })
        .map((entries) => new Map(entries)),
      fc.record({ tag: fc.nat(), value: tie("anyValue") }),
    ),
  })); // prettier-ignore

  const judge = async (verifier: DocumentVerifier, bytes: Uint8Array, policy: AttestationPolicy) => {
    try {
      return await verifier.verify(bytes, policy, AT_MS);
    } catch (error) {
      if (error instanceof KitError && /^E_(?:EVIDENCE|UNMET)_/.test(error.code)) return error.code;
      throw error;
    }
  };

  test("that a genuine key signs gives a verdict, and what is taken has the form that it claims", async () => {
    const verifier = new DocumentVerifier(createNodeCrypto());
    const verdicts = new Set<string>();
    // One or two fields at a time, so that the rest does not refuse them all.
    const fields = fc.array(fc.tuple(fc.constantFrom(...KEYS, "later"), anyValue), { minLength: 1, maxLength: 2 });
    await fc.assert(
      fc.asyncProperty(fields, async (entries) => {
        const parts = { chain, entries: Object.fromEntries(entries) };
        const verdict = await judge(verifier, ca.document(parts), {
          roots: [rootOf(chain)],
          allowDebug: true,
          maxAgeMs: 60_000,
        });
        verdicts.add(typeof verdict === "string" ? verdict : "taken");
        if (typeof verdict === "string") return;
        expect(verdict.moduleId).toMatch(/./su);
        expect(verdict.digest).toBe("SHA384");
        expect(Number.isSafeInteger(verdict.timestampMs)).toBe(true);
        for (const [index, value] of verdict.pcrs) {
          expect(index >= 0 && index < 32).toBe(true);
          expect([32, 48, 64]).toContain(value.length);
        }
        for (const bytes of [verdict.publicKey, verdict.userData, verdict.nonce])
          expect(bytes === null || bytes instanceof Uint8Array).toBe(true);
      }),
      { numRuns: 2000 },
    );
    expect(verdicts).toContain("taken");
    expect(verdicts).toContain("E_EVIDENCE_PAYLOAD");
    expect(verdicts).toContain("E_EVIDENCE_TPM");
  }); // prettier-ignore

  test("in DER that a genuine authority signs gives a verdict", async () => {
    const { element } = fc.letrec<{ element: Buffer }>((tie) => ({
      element: fc.oneof(
        { maxDepth: 4, depthSize: "small" },
        fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
        fc
          .tuple(fc.constantFrom(...Object.values(DER_TAG), 0x1e, 0x80, 0xa0, 0xa3), fc.uint8Array({ maxLength: 8 }))
          .map(([tag, content]) => der(tag, content)),
        fc
          .tuple(fc.constantFrom(0x30, 0x31, 0xa0, 0xa3), fc.array(tie("element"), { maxLength: 4 }))
          .map(([tag, children]) => der(tag, ...children)),
        fc.constantFrom(NO_AUTHORITY, MAY_SIGN_DATA, commonName("a"), hex("0603551d13"), hex("0101ff")).map((bytes) => Buffer.from(bytes)),
      ),
    }));
    const place = fc.constantFrom<(bytes: Buffer) => CertificateParts>(
      (subject) => ({ subject }),
      (bytes) => ({ subject: sequence(bytes) }),
      (bytes) => ({ subject: sequence(der(DER_TAG.set, bytes)) }),
      (bytes) => ({ subject: sequence(der(DER_TAG.set, sequence(hex("0603550403"), bytes))) }),
      (serial) => ({ serial }),
      (notBefore) => ({ notBefore }),
      (spki) => ({ spki }),
      (extensionsField) => ({ extensionsField }),
      (bytes) => ({ extensions: [NO_AUTHORITY, MAY_SIGN_DATA, bytes] }),
      (bytes) => ({ extensions: [extension("551d13", bytes, true), MAY_SIGN_DATA] }),
      (bytes) => ({ extensions: [NO_AUTHORITY, extension("551d0f", bytes)] }),
      (uniqueId) => ({ uniqueId }),
      (bytes) => ({ signature: () => bytes }),
      (bytes) => ({ whole: () => bytes }),
    );
    const verifier = new DocumentVerifier(createNodeCrypto());
    const [root = new Uint8Array()] = chain;
    const trust = { roots: [rootOf(chain)], atMs: AT_MS };
    const counts = { taken: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(place, element, async (put, bytes) => {
        const leaf = ca.certificate("leaf", "root", put(bytes));
        const document = await authenticOrNull(verifier, ca.document({ chain: [root, leaf] }), trust);
        counts[document === null ? "refused" : "taken"] += 1;
        if (document === null) return;
        expect(document.chain.at(-1)?.subject.length).toBeLessThanOrEqual(300);
      }),
      { numRuns: 1500 },
    );
    expect(counts.taken).toBeGreaterThan(10);
    expect(counts.refused).toBeGreaterThan(500);
  }); // prettier-ignore

  test.each(["document", "payload", "certificate"])(
    "that changes made of a valid %s, as the endless search makes them, gives a verdict",
    async (name) => {
      const runCase = (await createDocumentCases())[name];
      const random = new RandomSource(20_260_115);
      const verdicts = new Set<string>();
      for (let index = 0; index < 3000; index += 1) verdicts.add((await runCase?.(random)) ?? "");
      for (const verdict of verdicts) expect(verdict).toMatch(/^(?:passed|E_(?:EVIDENCE|UNMET)_[A-Z]+)$/);
      expect(verdicts).toContain("passed");
      expect(verdicts).toContain(name === "certificate" ? "E_EVIDENCE_CERTIFICATE" : "E_EVIDENCE_ENCODING");
    },
  );
});
