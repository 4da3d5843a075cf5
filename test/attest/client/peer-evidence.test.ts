import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";

import { readEvidence } from "../../../attest/client/peer-evidence.ts";
import { KitError } from "../../../core/errors.ts";
import { createTlsKey, issueIdentity } from "../../../ra-server/tls-identity.ts";
import { MAX_EVIDENCE_BYTES, RA_TLS_OID } from "../../../wire/ra-tls.ts";
import { isKitError } from "../../enclave/kit-error.ts";

const HOUR_MS = 3_600_000;
const DOCUMENT = new Uint8Array(4_500).map((_, index) => index * 7);
const made: { certificate?: Uint8Array } = {};

async function certify(document?: Uint8Array): Promise<Uint8Array> {
  const { cert } = await issueIdentity(await createTlsKey(), {
    name: "signer",
    notBeforeMs: Date.now() - HOUR_MS,
    notAfterMs: Date.now() + HOUR_MS,
    ...(document === undefined ? {} : { document }),
  });
  return new Uint8Array(new X509Certificate(cert).raw);
}

function certificate(): Uint8Array {
  if (made.certificate === undefined) throw new Error("not made");
  return made.certificate;
}

beforeAll(async () => {
  made.certificate = await certify(DOCUMENT);
});

test("the document of a certificate is found, also the longest", async () => {
  expect(readEvidence(certificate())).toEqual(DOCUMENT);
  const longest = new Uint8Array(MAX_EVIDENCE_BYTES).fill(1);
  expect(readEvidence(await certify(longest))).toEqual(longest);
});

test("the extension's number survives what reads and writes it", () => {
  const arc = Number(RA_TLS_OID.split(".").at(-1));
  const bytes = [arc >>> 28, arc >>> 21, arc >>> 14, arc >>> 7, arc].map((part) => part & 0x7f);
  const [first = 0, ...rest] = bytes;
  const content = [2 * 40 + 25, first | 0x80, ...rest.map((part, index) => (index < 3 ? part | 0x80 : part))];
  const der = Buffer.from([6, content.length, ...content]);
  expect(Buffer.from(certificate()).includes(der)).toBe(true);
});

test("a certificate without the extension, and one that is too long, have no evidence", async () => {
  const bare = await certify();
  expect(() => readEvidence(bare)).toThrow(isKitError("E_EVIDENCE_MISSING", /has no extension/));
  const padded = Buffer.concat([certificate(), Buffer.alloc(20_000)]);
  expect(() => readEvidence(padded)).toThrow(isKitError("E_EVIDENCE_MISSING", /bytes/));
});

test("any bytes, and any change of a certificate, give evidence or a coded refusal", () => {
  const check = (bytes: Uint8Array): void => {
    try {
      expect(readEvidence(bytes).length).toBeGreaterThan(0);
    } catch (error) {
      expect(error).toBeInstanceOf(KitError);
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), check), { numRuns: 300 });
  const places = fc.tuple(fc.nat({ max: 400 }), fc.integer({ min: 1, max: 255 }));
  const changed = fc.property(places, ([at, change]) => {
    check(certificate().map((byte, index) => (index === at ? byte ^ change : byte)));
  });
  fc.assert(changed, { numRuns: 300 });
});
