import { createHash, generateKeyPairSync } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";

import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import { DER_TAG } from "../../../wire/der/der-reader.ts";
import {
  authority,
  BASIC_CONSTRAINTS,
  bitString,
  commonName,
  der,
  extension,
  hex,
  integer,
  KEY_USAGE,
  MAY_SIGN_CERTIFICATES,
  MAY_SIGN_DATA,
  NO_AUTHORITY,
  sequence,
  utcTime,
} from "./der-writer.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { AT_MS, type CertificateParts, type Level, rootOf, TestAuthority } from "./test-authority.ts";

let ca: TestAuthority;
beforeAll(() => {
  ca = new TestAuthority();
});

async function authenticate(chain: readonly Uint8Array[], atMs = AT_MS, roots = [rootOf(chain)]) {
  const verifier = new DocumentVerifier(createNodeCrypto());
  return await verifier.authenticate(ca.document({ chain }), { roots, atMs });
}

async function withParts(level: Level, parts: CertificateParts) {
  return await authenticate(ca.chain({ [level]: parts }));
}

const N = 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n;

/** r and s of a DER signature, changed. */
function rewrite(change: (r: bigint, s: bigint) => readonly [bigint, bigint]) {
  return (genuine: Buffer): Uint8Array => {
    const rLength = genuine[3] ?? 0;
    const r = BigInt(`0x${genuine.subarray(4, 4 + rLength).toString("hex")}`);
    const s = BigInt(`0x${genuine.subarray(6 + rLength).toString("hex")}`);
    return sequence(...change(r, s).map(positive));
  };
}

function positive(value: bigint): Buffer {
  const digits = value.toString(16);
  const even = digits.length % 2 === 0 ? digits : `0${digits}`;
  return integer(/^[89a-f]/.test(even) ? `00${even}` : even);
}

describe("a chain as NSMs have it", () => {
  test("is accepted, and told from the root to the leaf", async () => {
    const chain = ca.chain();
    const document = await authenticate(chain);
    expect(document.rootSha256).toBe(rootOf(chain));
    expect(document.chain.map(({ subject }) => subject)).toEqual([
      "CN=test root",
      "CN=test regional",
      "CN=test zonal",
      "CN=test instance",
      "CN=test leaf",
    ]);
    expect(document.chain.at(-1)?.notAfterMs).toBe(AT_MS + 2 * 3_600_000);
  });

  test("may have fewer certificates between root and leaf, or none", async () => {
    await authenticate(ca.chain({}, ["root", "instance", "leaf"]));
    const { chain } = await authenticate(ca.chain({}, ["root", "leaf"]));
    expect(chain).toHaveLength(2);
  });

  test("holds in the first and in the last millisecond of its leaf, and not in the ones beyond", async () => {
    const chain = ca.chain();
    const from = AT_MS - 3_600_000;
    const to = AT_MS + 2 * 3_600_000;
    await authenticate(chain, from);
    await authenticate(chain, to);
    await expectRefusal(
      authenticate(chain, from - 1),
      "E_EVIDENCE_VALIDITY",
      /not at 2026-01-15T10:59:59\.999Z/,
    );
    await expectRefusal(
      authenticate(chain, to + 1),
      "E_EVIDENCE_VALIDITY",
      /the leaf certificate is valid from/,
    );
  });

  test("may have times after 2049", async () => {
    const notAfter = der(DER_TAG.generalizedTime, Buffer.from("20560115120000Z"));
    const { chain } = await withParts("root", { notAfter });
    expect(chain[0]?.notAfterMs).toBe(Date.UTC(2056, 0, 15, 12));
  });

  test("may have a serial number of 20 bytes whose first bit is set, as AWS has", async () => {
    await withParts("instance", { serial: integer(`00${"f0".repeat(20)}`) });
  });

  test("may have extensions that are not critical and not known", async () => {
    const crl = extension("551d1f", hex("3000"));
    await withParts("zonal", { extensions: [authority(1), crl, MAY_SIGN_CERTIFICATES] });
  });

  test("may have the greater s in the signatures of its certificates", async () => {
    const signature = rewrite((r, s) => [r, N - s]);
    await withParts("leaf", { signature });
    await withParts("zonal", { signature });
  });
});

describe("trust", () => {
  test("a root that is not named is refused, however well it is made", async () => {
    const other = createHash("sha256").update("another").digest("hex");
    await expectRefusal(authenticate(ca.chain(), AT_MS, [other]), "E_EVIDENCE_ROOT", other);
  });

  test("any of several roots will do", async () => {
    const chain = ca.chain();
    await authenticate(chain, AT_MS, ["0".repeat(64), rootOf(chain)]);
  });

  test("the trusted root must come first", async () => {
    const chain = ca.chain();
    const [root = new Uint8Array(), regional = new Uint8Array(), ...rest] = chain;
    const swapped = [regional, root, ...rest];
    await expectRefusal(authenticate(swapped, AT_MS, [rootOf(chain)]), "E_EVIDENCE_ROOT");
  });

  test("a root's own signature is not what it is trusted for", async () => {
    const stranger = generateKeyPairSync("ec", { namedCurve: "P-384" });
    await withParts("root", { signedBy: stranger.privateKey });
  });

  test.each([[[]], [["AB".repeat(32)]], [["ab"]], [[""]]])(
    "roots %j are a mistake of the caller",
    async (roots) => {
      await expect(authenticate(ca.chain(), AT_MS, roots)).rejects.toThrow(RangeError);
    },
  );

  test.each([Number.NaN, Infinity, 9e15])("%s is no time", async (atMs) => {
    await expect(authenticate(ca.chain(), atMs)).rejects.toThrow(RangeError);
  });
});

describe("certificates that do not vouch for one another", () => {
  const stranger = generateKeyPairSync("ec", { namedCurve: "P-384" });

  test.each<[Level]>([["regional"], ["zonal"], ["instance"], ["leaf"]])(
    "a %s certificate that another key signed",
    async (level) => {
      await expectRefusal(
        withParts(level, { signedBy: stranger.privateKey }),
        "E_EVIDENCE_CHAIN",
        /not signed by/,
      );
    },
  );

  test.each<[Level]>([["regional"], ["zonal"], ["instance"], ["leaf"]])(
    "a %s certificate that names another issuer",
    async (level) => {
      const issuer = commonName("somebody");
      await expectRefusal(withParts(level, { issuer }), "E_EVIDENCE_CHAIN", /issuer/);
    },
  );

  test("an issuer whose name is the same text in another type of string", async () => {
    const attribute = sequence(hex("0603550403"), der(DER_TAG.printableString, Buffer.from("test instance")));
    const issuer = sequence(der(DER_TAG.set, attribute));
    await expectRefusal(withParts("leaf", { issuer }), "E_EVIDENCE_CHAIN", /issuer/);
  });

  test("certificates in another order", async () => {
    const [root, regional, zonal, instance, leaf] = ca.chain();
    const chain = [root, zonal, regional, instance, leaf].map((der) => der ?? new Uint8Array());
    await expectRefusal(authenticate(chain), "E_EVIDENCE_CHAIN");
  });

  test.each<[Level]>([["root"], ["regional"], ["zonal"], ["instance"]])(
    "a %s that is no authority",
    async (level) => {
      const extensions = [NO_AUTHORITY, MAY_SIGN_CERTIFICATES];
      await expectRefusal(withParts(level, { extensions }), "E_EVIDENCE_CHAIN", /not of an authority/);
      const without = { extensions: [MAY_SIGN_CERTIFICATES] };
      await expectRefusal(withParts(level, without), "E_EVIDENCE_CHAIN", /not of an authority/);
    },
  );

  test.each<[Level]>([["root"], ["regional"], ["zonal"], ["instance"]])(
    "a %s whose key may not sign certificates",
    async (level) => {
      const other = { extensions: [authority(), MAY_SIGN_DATA] };
      await expectRefusal(withParts(level, other), "E_EVIDENCE_CHAIN", /may not sign certificates/);
      const silent = { extensions: [authority()] };
      await expectRefusal(withParts(level, silent), "E_EVIDENCE_CHAIN", /may not sign certificates/);
    },
  );

  test.each<[Level, number]>([
    ["root", 2],
    ["regional", 1],
    ["zonal", 0],
  ])("a %s that allows %i authorities below it, one too few", async (level, pathLength) => {
    const extensions = [authority(pathLength), MAY_SIGN_CERTIFICATES];
    await expectRefusal(withParts(level, { extensions }), "E_EVIDENCE_CHAIN", /authorities below/);
  });

  test("a leaf that is an authority", async () => {
    const extensions = [authority(), MAY_SIGN_DATA];
    await expectRefusal(
      withParts("leaf", { extensions }),
      "E_EVIDENCE_CHAIN",
      /leaf certificate is of an authority/,
    );
  });

  test("a leaf whose key may not sign data", async () => {
    for (const extensions of [[NO_AUTHORITY, MAY_SIGN_CERTIFICATES], [NO_AUTHORITY]])
      await expectRefusal(withParts("leaf", { extensions }), "E_EVIDENCE_CHAIN", /may not sign data/);
  });

  test("a leaf with whose key another leaf was signed", async () => {
    const rogue = generateKeyPairSync("ec", { namedCurve: "P-384" });
    const spki = rogue.publicKey.export({ type: "spki", format: "der" });
    const parts = { issuer: commonName("test leaf"), subject: commonName("rogue"), spki };
    const chain = [...ca.chain({}, ["root", "leaf"]), ca.certificate("leaf", "leaf", parts)];
    await expectRefusal(authenticate(chain), "E_EVIDENCE_CHAIN", /not of an authority/);
  });
});

describe("validity", () => {
  test.each<[Level, string]>([
    ["root", "the root certificate"],
    ["regional", "cabundle[1]"],
    ["zonal", "cabundle[2]"],
    ["instance", "cabundle[3]"],
    ["leaf", "the leaf certificate"],
  ])("a %s that has ended, or not begun, is refused", async (level, where) => {
    const ended = { notAfter: utcTime(AT_MS - 1000) };
    const attempt = withParts(level, ended);
    await expectRefusal(attempt, "E_EVIDENCE_VALIDITY", "not at 2026-01-15T12:00:00.000Z");
    await expect(attempt).rejects.toThrow(where);
    await expectRefusal(withParts(level, { notBefore: utcTime(AT_MS + 1000) }), "E_EVIDENCE_VALIDITY");
  });
});

describe("certificates of another kind", () => {
  const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const spkiOf = (key: typeof p256): Buffer => key.publicKey.export({ type: "spki", format: "der" });
  const sha256 = hex("300a06082a8648ce3d040302");
  const point = hex("3076301006072a8648ce3d020106052b810400220362000400").subarray(0, -1);
  const crossed = sequence(
    hex("3010 06072a8648ce3d0201 06052b81040022"),
    bitString(hex(`02${"11".repeat(48)}`)),
  );

  test.each<[what: string, parts: CertificateParts, message: RegExp]>([
    ["version 1", { version: hex("a003020100") }, /version/],
    ["version 2", { version: hex("a003020101") }, /version/],
    ["no version", { version: new Uint8Array() }, /version/],
    ["a serial number of zero", { serial: integer("00") }, /serial/],
    ["a negative serial number", { serial: integer("ff") }, /serial/],
    ["a serial number of 21 bytes", { serial: integer(`01${"00".repeat(21)}`) }, /serial/],
    ["an inner algorithm with SHA-256", { innerAlgorithm: sha256 }, /SHA-384/],
    ["an outer algorithm with SHA-256", { algorithm: sha256 }, /SHA-384/],
    ["two algorithms with SHA-256", { algorithm: sha256, innerAlgorithm: sha256 }, /SHA-384/],
    ["an algorithm with parameters", { algorithm: hex("300c06082a8648ce3d0403030500") }, /SHA-384/],
    ["a key on P-256", { spki: spkiOf(p256) }, /P-384/],
    ["a compressed key", { spki: crossed }, /P-384/],
    ["a key longer than a point", { spki: Buffer.concat([point, Buffer.alloc(97)]) }, /./],
    ["a validity of one time", { notAfter: new Uint8Array() }, /validity/],
    ["a validity of numbers", { notAfter: integer("01") }, /time/],
    ["the 30th of February", { notAfter: der(DER_TAG.utcTime, Buffer.from("260230000000Z")) }, /time/],
    ["the 13th month", { notAfter: der(DER_TAG.generalizedTime, Buffer.from("20261301000000Z")) }, /time/],
    ["a 61st second", { notAfter: der(DER_TAG.utcTime, Buffer.from("260116000061Z")) }, /time/],
    ["a time without seconds", { notAfter: der(DER_TAG.utcTime, Buffer.from("2601160000Z")) }, /value/],
    ["a time with a zone", { notAfter: der(DER_TAG.utcTime, Buffer.from("260116000000+0100")) }, /value/],
    ["a subject's unique id", { uniqueId: hex("82020000") }, /./],
    ["no extensions", { extensionsField: new Uint8Array() }, /./],
    ["two lists of extensions", { extensionsField: der(0xa3, sequence(), sequence()) }, /more/],
    ["bytes after its end", { whole: (der) => Buffer.concat([der, hex("00")]) }, /after the end/],
    ["its last byte missing", { whole: (der) => der.subarray(0, -1) }, /end is missing/],
    ["a fourth part", { whole: (der) => sequence(der.subarray(4), hex("0500")) }, /more/],
    [
      "an indefinite length",
      { whole: (der) => Buffer.concat([hex("3080"), der.subarray(4), hex("0000")]) },
      /indefinite/,
    ],
    ["a length in more bytes than it needs", { serial: hex("02810101") }, /more bytes/],
    ["a number in more bytes than it needs", { serial: hex("02020001") }, /value/],
    ["a constructed string", { serial: hex("2203020101") }, /tag/],
    ["a tag number above 30", { serial: hex("1f8101 01 01") }, /tag number/],
  ])("%s", async (_what, parts, message) => {
    for (const level of ["root", "zonal", "leaf"] as const)
      await expectRefusal(withParts(level, parts), "E_EVIDENCE_CERTIFICATE", message);
  });

  test("an RSA key", async () => {
    const spki = rsa.publicKey.export({ type: "spki", format: "der" });
    await expectRefusal(withParts("leaf", { spki }), "E_EVIDENCE_CERTIFICATE", /P-384/);
  });

  test("a key whose point is not on the curve proves nothing", async () => {
    const spki = Buffer.concat([point, Buffer.alloc(96, 0x11)]);
    await expectRefusal(withParts("leaf", { spki }), "E_EVIDENCE_SIGNATURE");
    await expectRefusal(withParts("zonal", { spki }), "E_EVIDENCE_CHAIN", /not signed/);
  });
});

describe("extensions", () => {
  const unknown = "2a0304";
  const leafWith = (...extensions: readonly Uint8Array[]): CertificateParts => ({
    extensions: [NO_AUTHORITY, MAY_SIGN_DATA, ...extensions],
  });

  test.each<[what: string, parts: CertificateParts, message: RegExp]>([
    [
      "one that is critical and unknown",
      leafWith(extension(unknown, hex("0500"), true)),
      /critical.*06032a0304/,
    ],
    ["critical name constraints", leafWith(extension("551d1e", hex("3000"), true)), /critical/],
    ["a critical extended key usage", leafWith(extension("551d25", hex("3000"), true)), /critical/],
    ["one twice", leafWith(extension(unknown, hex("00")), extension(unknown, hex("00"))), /twice/],
    ["the key usage twice", leafWith(MAY_SIGN_DATA), /twice/],
    [
      "one that says it is not critical",
      leafWith(sequence(hex("06032a0304 010100"), hex("0400"))),
      /not in DER/,
    ],
    ["a critical flag that is neither", leafWith(sequence(hex("06032a0304 010101"), hex("0400"))), /value/],
    ["one without a value", leafWith(sequence(hex("06032a0304"))), /extension/],
    ["one with two values", leafWith(sequence(hex("06032a0304 0400 0400"))), /more/],
    ["one with a name that is no OID", leafWith(sequence(hex("020101 0400"))), /extension/],
    ["an OID of no bytes", leafWith(sequence(hex("0600 0400"))), /value/],
    ["an OID with leading zeros", leafWith(sequence(hex("0603 2a8001 0400"))), /value/],
    ["an OID that goes on", leafWith(sequence(hex("0602 2a83 0400"))), /value/],
    ["something else in the list", leafWith(hex("0500")), /extension/],
  ])("%s", async (_what, parts, message) => {
    await expectRefusal(withParts("leaf", parts), "E_EVIDENCE_CERTIFICATE", message);
  });

  test.each<[what: string, value: Uint8Array]>([
    ["with bytes after their end", hex("300000")],
    ["that say FALSE aloud", hex("3003010100")],
    ["with a path length and no authority", hex("3003020101")],
    ["with a negative path length", hex("30060101ff0201ff")],
    ["with a path length of 9 bytes", hex("300e0101ff0209010000000000000000")],
    ["with a third part", hex("30090101ff020100020100")],
    ["that are no sequence", hex("0101ff")],
    ["that are nothing", hex("")],
  ])("basic constraints %s", async (_what, value) => {
    const extensions = [extension(BASIC_CONSTRAINTS, value, true), MAY_SIGN_CERTIFICATES];
    await expectRefusal(withParts("zonal", { extensions }), "E_EVIDENCE_CERTIFICATE");
  });

  test.each<[what: string, value: Uint8Array]>([
    ["with bytes after its end", hex("0302020400")],
    ["whose unused bits are set", hex("03020207")],
    ["with more unused bits than a byte has", hex("03020804")],
    ["that is nothing", hex("")],
    ["that is a number", hex("020104")],
    ["with no bytes", hex("0300")],
  ])("a key usage %s", async (_what, value) => {
    const extensions = [authority(1), extension(KEY_USAGE, value, true)];
    await expectRefusal(withParts("zonal", { extensions }), "E_EVIDENCE_CERTIFICATE");
  });

  test("a key usage of no bits allows nothing", async () => {
    const extensions = [authority(1), extension(KEY_USAGE, hex("030100"), true)];
    await expectRefusal(withParts("zonal", { extensions }), "E_EVIDENCE_CHAIN", /may not/);
  });
});

describe("signatures of certificates", () => {
  const order = N;
  test.each<[what: string, signature: (genuine: Buffer) => Uint8Array, message: RegExp]>([
    ["r of zero", rewrite((_r, s) => [0n, s]), /range/],
    ["s of zero", rewrite((r) => [r, 0n]), /range/],
    ["r of the order", rewrite((_r, s) => [order, s]), /range/],
    ["s above the order", rewrite((r, s) => [r, s + order]), /range/],
    ["a negative r", (der) => sequence(integer("ff"), der.subarray(4 + (der[3] ?? 0))), /range/],
    [
      "r in more bytes than it needs",
      (der) => sequence(hex("02020001"), der.subarray(4 + (der[3] ?? 0))),
      /value/,
    ],
    ["one number", () => sequence(integer("01")), /item/],
    ["three numbers", (der) => sequence(der.subarray(2), integer("01")), /more/],
    ["r || s as COSE has it", () => Buffer.alloc(96, 1), /./],
    ["bytes after its end", (der) => Buffer.concat([der, hex("00")]), /after the end/],
    ["nothing", () => Buffer.alloc(0), /./],
  ])("%s", async (_what, signature, message) => {
    for (const level of ["regional", "leaf"] as const)
      await expectRefusal(withParts(level, { signature }), "E_EVIDENCE_CERTIFICATE", message);
  });

  test("another signature that is well formed", async () => {
    const signature = rewrite((r, s) => [r, s === 1n ? 2n : s - 1n]);
    for (const level of ["regional", "leaf"] as const)
      await expectRefusal(withParts(level, { signature }), "E_EVIDENCE_CHAIN", /not signed/);
  });
});
