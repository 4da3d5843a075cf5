/** Nothing in a document can be changed unseen: every byte of documents in several forms, every cut, every byte more. */
import { beforeAll, describe, expect, test } from "vitest";

import type { TrustAnchor } from "../../../attest/verify/certificate-chain.ts";
import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import {
  makeDocument,
  openPassingAuthority,
} from "../../../scripts/attestation-fuzz/development-documents.ts";
import { MAX_DOCUMENT_BYTES } from "../../../wire/attestation-document.ts";
import { encodeCbor } from "../../../wire/cbor/cbor-encoder.ts";
import { decodeCoseSign1 } from "../../../wire/cose/cose-sign1.ts";
import {
  acceptedChanges,
  authenticOrNull,
  createRememberingCrypto,
  everyValue,
  type OtherValues,
  someValues,
} from "./byte-changes.ts";
import { hex } from "./der-writer.ts";
import { AT_MS, rootOf, TestAuthority } from "./test-authority.ts";

const TIMEOUT_MS = 180_000;

const FORMS = ["definite", "indefinite"] as const;
let documents: Readonly<Record<(typeof FORMS)[number], Uint8Array>>;
let anchor: TrustAnchor;
beforeAll(async () => {
  const authority = await openPassingAuthority();
  documents = {
    definite: await makeDocument(authority, "definite"),
    indefinite: await makeDocument(authority, "indefinite"),
  };
  anchor = { roots: [authority.rootSha256], atMs: Date.now() };
});

/** Where the parts of a message stand in it; all lengths must be definite. */
function findParts(document: Uint8Array) {
  const place = (part: Uint8Array): readonly [start: number, end: number] => {
    const start = part.byteOffset - document.byteOffset;
    return [start, start + part.length];
  };
  const { protectedHeader, payload, signature } = decodeCoseSign1(document, MAX_DOCUMENT_BYTES);
  return { header: place(protectedHeader), payload: place(payload), signature: place(signature) };
}

function isWithin(index: number, [start, end]: readonly [start: number, end: number]): boolean {
  return index >= start && index < end;
}

/** All values in what frames payload and signature; some within them. */
function frameThoroughly(document: Uint8Array): OtherValues {
  const { payload, signature } = findParts(document);
  return (byte, index) =>
    isWithin(index, payload) || isWithin(index, signature)
      ? someValues(byte, index)
      : everyValue(byte, index);
}

async function expectNoneAccepted(genuine: Uint8Array, trust: TrustAnchor, values: OtherValues) {
  const verifier = new DocumentVerifier(createRememberingCrypto());
  expect(await authenticOrNull(verifier, genuine, trust)).not.toBeNull();
  const accepted = await acceptedChanges(verifier, genuine, trust, values);
  expect(accepted.map(({ index, value }) => `byte ${index} as ${value}`)).toEqual([]);
  expect(await authenticOrNull(verifier, genuine, trust)).not.toBeNull();
}

describe("a document of a module", () => {
  test.each(FORMS)("of %s length is refused with any byte changed", { timeout: TIMEOUT_MS }, async (form) => {
    const document = documents[form];
    // So that the changes are made to the form that the title says.
    const { payload } = findParts(document);
    expect(document[payload[0]]).toBe(form === "indefinite" ? 0xbf : 0xa9);
    await expectNoneAccepted(document, anchor, frameThoroughly(document));
  });

  test.each(FORMS)("of %s length is refused with anything cut off its end or its beginning", async (form) => {
    const verifier = new DocumentVerifier(createRememberingCrypto());
    const document = documents[form];
    for (let at = 1; at < document.length; at += 1) {
      expect(await authenticOrNull(verifier, document.subarray(0, at), anchor)).toBeNull();
      expect(await authenticOrNull(verifier, document.subarray(at), anchor)).toBeNull();
    }
    expect(await authenticOrNull(verifier, new Uint8Array(), anchor)).toBeNull();
    expect(await authenticOrNull(verifier, document, anchor)).not.toBeNull();
  });

  test("is refused with any byte after it", async () => {
    const verifier = new DocumentVerifier(createRememberingCrypto());
    const document = documents.indefinite;
    for (let byte = 0; byte < 256; byte += 1)
      expect(await authenticOrNull(verifier, Buffer.concat([document, Buffer.of(byte)]), anchor)).toBeNull();
  });

  test("takes no byte before it but the tag", async () => {
    const verifier = new DocumentVerifier(createRememberingCrypto());
    const document = documents.definite;
    const accepted: number[] = [];
    for (let byte = 0; byte < 256; byte += 1)
      if ((await authenticOrNull(verifier, Buffer.concat([Buffer.of(byte), document]), anchor)) !== null)
        accepted.push(byte);
    expect(accepted).toEqual([0xd2]);
  });
});

describe("what is not signed", () => {
  test("is the unprotected header alone, and changes in it change nothing", async () => {
    const ca = new TestAuthority();
    const chain = ca.chain();
    const unprotected = new Map<number, Uint8Array | number>([
      [4, hex("abcd")],
      [5, 1000],
    ]);
    const parts = { chain, unprotected, protectedHeader: hex("a20138220442abcd") };
    const document = new Uint8Array(Buffer.concat([hex("d2"), ca.document(parts)]));
    const trust = { roots: [rootOf(chain)], atMs: AT_MS };
    const { header, payload, signature } = findParts(document);
    // Head of the payload: 0x59 and two bytes.
    const isOpen = (index: number): boolean => isWithin(index, [header[1], payload[0] - 3]);
    const isFrame = (index: number): boolean => !isWithin(index, payload) && !isWithin(index, signature);

    const verifier = new DocumentVerifier(createRememberingCrypto());
    const original = await authenticOrNull(verifier, document, trust);
    const values: OtherValues = (byte, index) => (isFrame(index) ? everyValue(byte, index) : [byte ^ 1]);
    const accepted = await acceptedChanges(verifier, document, trust, values);
    expect(accepted.filter(({ index }) => !isOpen(index))).toEqual([]);
    expect(accepted.length).toBeGreaterThan(256);
    for (const change of accepted) expect(change.document).toEqual(original);
  });

  test("never is the algorithm or a critical header, however it is put there", async () => {
    const ca = new TestAuthority();
    const chain = ca.chain();
    const trust = { roots: [rootOf(chain)], atMs: AT_MS };
    const verifier = new DocumentVerifier(createRememberingCrypto());
    for (const key of [1, 2]) {
      const document = ca.document({ chain, unprotected: new Map([[key, -35]]) });
      expect(await authenticOrNull(verifier, document, trust)).toBeNull();
    }
  });
});

describe("a message in indefinite lengths all over", () => {
  const pieces = (bytes: Uint8Array, sizeBytes: number): Buffer => {
    const chunks: Buffer[] = [hex("5f")];
    for (let at = 0; at < bytes.length; at += sizeBytes)
      chunks.push(encodeCbor(bytes.subarray(at, at + sizeBytes)));
    return Buffer.concat([...chunks, hex("ff")]);
  };

  test("is accepted as it is and refused with any byte changed", { timeout: TIMEOUT_MS }, async () => {
    const plain = documents.indefinite;
    const { protectedHeader, payload, signature } = decodeCoseSign1(plain, MAX_DOCUMENT_BYTES);
    const document = Buffer.concat([
      hex("9f"),
      pieces(protectedHeader, 3),
      hex("bfff"),
      pieces(payload, 512),
      pieces(signature, 20),
      hex("ff"),
    ]);
    const isFirstPart = (index: number): boolean => index < 20;
    await expectNoneAccepted(document, anchor, (byte, index) =>
      isFirstPart(index) ? everyValue(byte, index) : [byte ^ 0x01, byte ^ 0x40],
    );
  });
});
