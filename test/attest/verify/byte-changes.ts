/** Documents with one byte changed, and what a verifier takes of them. */
import type { AuthenticDocument, DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import type { TrustAnchor } from "../../../attest/verify/certificate-chain.ts";
import type { VerificationCrypto } from "../../../attest/verify/verification-crypto.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import { KitError } from "../../../core/errors.ts";

export interface Acceptance {
  readonly index: number;
  readonly value: number;
  readonly document: AuthenticDocument;
}

/** The other values to try at a place. */
export type OtherValues = (byte: number, index: number) => readonly number[];

/** Two neighbours and the two ends of what a byte can be. */
export const someValues: OtherValues = (byte) => [byte ^ 0x01, byte ^ 0x80, 0x00, 0xff];
export const everyValue: OtherValues = () => Array.from({ length: 256 }, (_item, value) => value);

/** Every change that the verifier takes for authentic. Anything but a refusal of evidence is an error of the verifier. */
export async function acceptedChanges(
  verifier: DocumentVerifier,
  genuine: Uint8Array,
  anchor: TrustAnchor,
  valuesAt: OtherValues,
): Promise<readonly Acceptance[]> {
  const accepted: Acceptance[] = [];
  const bytes = new Uint8Array(genuine);
  for (const [index, byte] of genuine.entries()) {
    for (const value of new Set(valuesAt(byte, index))) {
      if (value === byte) continue;
      bytes[index] = value;
      const document = await authenticOrNull(verifier, bytes, anchor);
      if (document !== null) accepted.push({ index, value, document });
    }
    bytes[index] = byte;
  }
  return accepted;
}

/** null: refused as bad evidence. */
export async function authenticOrNull(
  verifier: DocumentVerifier,
  bytes: Uint8Array,
  anchor: TrustAnchor,
): Promise<AuthenticDocument | null> {
  try {
    return await verifier.authenticate(bytes, anchor);
  } catch (error) {
    if (error instanceof KitError && error.code.startsWith("E_EVIDENCE_")) return null;
    throw error;
  }
}

/** Signatures of certificates come again and again where only the document around them changes: each is computed once. */
export function createRememberingCrypto(): VerificationCrypto {
  const crypto = createNodeCrypto();
  const known = new Map<string, boolean>();
  return {
    sha256: (bytes) => crypto.sha256(bytes),
    verifyEs384: async (spki, signature, data) => {
      const name = Buffer.concat([spki, signature, data]).toString("latin1");
      const result = known.get(name) ?? (await crypto.verifyEs384(spki, signature, data));
      // Documents are larger than certificates, and each is seen once.
      if (data.length < 1024) known.set(name, result);
      return result;
    },
  };
}
