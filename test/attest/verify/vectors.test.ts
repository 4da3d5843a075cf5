import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { describe, expect, test, type TestContext } from "vitest";

import type { AttestationPolicy } from "../../../attest/verify/attestation-policy.ts";
import { AWS_ROOT_SHA256 } from "../../../attest/verify/aws-root.ts";
import { DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import { decodeAttestationPayload, MAX_DOCUMENT_BYTES } from "../../../wire/attestation-document.ts";
import { decodeCoseSign1 } from "../../../wire/cose/cose-sign1.ts";
import { acceptedChanges, authenticOrNull, createRememberingCrypto } from "./byte-changes.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { pathOf, type Vector, VECTORS, whyMissing } from "./vectors.ts";

const AWS = { roots: [AWS_ROOT_SHA256] };
const OTHER_ROOT = "0".repeat(64);

async function readVector(vector: Pick<Vector, "name">, skip: TestContext["skip"]): Promise<Uint8Array> {
  const why = await whyMissing(vector);
  skip(why !== undefined, why);
  return await readFile(pathOf(vector));
}

async function verify(bytes: Uint8Array, at: string | number, policy: Partial<AttestationPolicy> = {}) {
  const atMs = new Date(at).getTime();
  return await new DocumentVerifier(createNodeCrypto()).verify(bytes, { ...AWS, ...policy }, atMs);
}

describe.each(VECTORS)("the genuine $name", (vector) => {
  const { at, refusal } = vector;

  test(`at its time: ${refusal ?? "everything holds"}`, async ({ skip }) => {
    const bytes = await readVector(vector, skip);
    const attempt = verify(bytes, at);
    if (refusal !== null) await expectRefusal(attempt, refusal);
    else
      expect(await attempt).toMatchObject({
        isDebug: false,
        rootSha256: AWS_ROOT_SHA256,
        digest: "SHA384",
        unknownKeys: [],
        chain: expect.toSatisfy((chain: unknown) => Array.isArray(chain) && chain.length === 5),
      });
  });

  test("is refused now, a day before and a day after its time", async ({ skip }) => {
    const bytes = await readVector(vector, skip);
    const atMs = Date.parse(at);
    for (const otherMs of [Date.now(), atMs - 86_400_000, atMs + 86_400_000])
      await expectRefusal(verify(bytes, otherMs), "E_EVIDENCE_VALIDITY");
  });

  test("is refused below any other root, or one of its own authorities", async ({ skip }) => {
    const bytes = await readVector(vector, skip);
    const { payload } = decodeCoseSign1(bytes, MAX_DOCUMENT_BYTES);
    const { cabundle, certificate } = decodeAttestationPayload(payload);
    const own = [...cabundle.slice(1), certificate].map((der) => hash("sha256", der));
    for (const root of [OTHER_ROOT, ...own])
      await expectRefusal(verify(bytes, at, { roots: [root] }), "E_EVIDENCE_ROOT", AWS_ROOT_SHA256);
  });

  test("is no answer to a nonce that was not sent", async ({ skip }) => {
    const bytes = await readVector(vector, skip);
    const nonce = new Uint8Array(32).fill(1);
    await expectRefusal(
      verify(bytes, at, { nonce, allowDebug: true }),
      refusal === "E_EVIDENCE_SIGNATURE" ? refusal : "E_UNMET_NONCE",
    );
  });
});

describe("what genuine documents say", () => {
  test("user data and a nonce of 32 bytes each", async ({ skip }) => {
    const vector = { name: "attestation-2022-11-09.cbor" };
    const document = await verify(await readVector(vector, skip), "2022-11-09T22:52:01Z");
    expect(document.userData).toHaveLength(32);
    expect(document.nonce).toHaveLength(32);
    expect(document.publicKey).toBeNull();
    expect([...document.pcrs.keys()]).toEqual(Array.from({ length: 16 }, (_item, index) => index));
    expect(document.chain[0]?.subject).toBe("C=US, O=Amazon, OU=AWS, CN=aws.nitro-enclaves");
  });

  test("a public key of 294 bytes", async ({ skip }) => {
    const vector = { name: "attestation-2025-01-06-public-key.cbor" };
    const { publicKey } = await verify(await readVector(vector, skip), "2025-01-06T16:07:06Z");
    expect(publicKey).toHaveLength(294);
  });

  test("17 registers in a map of indefinite length", async ({ skip }) => {
    const vector = { name: "attestation-2025-11-10-indefinite-pcr16.cbor" };
    const { pcrs } = await verify(await readVector(vector, skip), "2025-11-10T17:20:11Z");
    expect(pcrs.size).toBe(17);
    expect(pcrs.get(16)).toHaveLength(48);
  });

  test("an enclave in debug mode, which is authentic and taken only by who allows it", async ({ skip }) => {
    const vector = { name: "attestation-2022-10-12-debug.cbor" };
    const bytes = await readVector(vector, skip);
    const document = await verify(bytes, "2022-10-12T13:50:07Z", { allowDebug: true });
    expect(document.isDebug).toBe(true);
    for (const index of [0, 1, 2]) expect(document.pcrs.get(index)).toEqual(new Uint8Array(48));
  });

  test("the release that was asked for, or another", async ({ skip }) => {
    const [vector] = VECTORS;
    if (vector === undefined) throw new TypeError("no vectors");
    const bytes = await readVector(vector, skip);
    const { pcrs, nonce, userData } = await verify(bytes, vector.at);
    const release = new Map([0, 1, 2].map((index) => [index, Buffer.from(pcrs.get(index) ?? []).toString("hex")])); // prettier-ignore
    const other = new Map([...release, [1, "0".repeat(96)]] as const);
    if (nonce === null || userData === null) throw new TypeError("the vector has changed");
    await verify(bytes, vector.at, { measurements: [other, release], nonce, userData, maxAgeMs: 60_000 });
    await expectRefusal(verify(bytes, vector.at, { measurements: [other] }), "E_UNMET_MEASUREMENTS");
    await expectRefusal(verify(bytes, vector.at, { maxAgeMs: 1 }), "E_UNMET_AGE");
  });
});

// The oldest form and the newest.
test.for(VECTORS.filter(({ name }) => /debug|indefinite/.test(name)))(
  "no bit of the genuine $name can be turned unseen",
  { timeout: 120_000 },
  async (vector, { skip }) => {
    const bytes = await readVector(vector, skip);
    const verifier = new DocumentVerifier(createRememberingCrypto());
    const anchor = { ...AWS, atMs: Date.parse(vector.at) };
    expect(await authenticOrNull(verifier, bytes, anchor)).not.toBeNull();
    // A bit of each byte: another one for every document.
    const shift = VECTORS.indexOf(vector);
    const accepted = await acceptedChanges(verifier, bytes, anchor, (byte, index) => [
      byte ^ (1 << ((index + shift) % 8)),
    ]);
    expect(accepted).toEqual([]);
  },
);
