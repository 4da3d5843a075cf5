/** Certificates in the shape of AWS's (aws-nitro-enclaves-nsm-api, docs/attestation_process.md), all of them P-384. */
import "reflect-metadata";

import { randomBytes } from "node:crypto";

import { type Extension, type JsonNameParams, Name, X509CertificateGenerator } from "@peculiar/x509";

export interface KeyPair {
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
}

/** Who signs: the name as the certificates below repeat it, to the byte. */
export interface Issuer {
  readonly subject: Name;
  readonly keys: KeyPair;
}

export interface CertificateRequest {
  readonly subject: Name;
  readonly issuer: Issuer;
  /** To the second; what is below is cut off. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly serialBytes: number;
  readonly publicKey: CryptoKey;
  readonly extensions: readonly Extension[];
}

export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-384" } as const;
export const SIGNATURE_ALGORITHM = { name: "ECDSA", hash: "SHA-384" } as const;

/** @returns DER */
export async function writeCertificate(request: CertificateRequest): Promise<Uint8Array> {
  const { subject, issuer, publicKey } = request;
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerial(request.serialBytes),
    subject,
    issuer: issuer.subject,
    notBefore: new Date(request.notBeforeMs),
    notAfter: new Date(request.notAfterMs),
    publicKey,
    signingKey: issuer.keys.privateKey,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [...request.extensions],
  });
  return new Uint8Array(certificate.rawData);
}

/** @param isExtractable for a key that is going to be written down */
export async function makeKeys(isExtractable = false): Promise<KeyPair> {
  return await crypto.subtle.generateKey(KEY_ALGORITHM, isExtractable, ["sign", "verify"]);
}

/** Parts in the order of the certificate; the country is a PrintableString, the others are UTF-8, as in AWS's. */
export function writeName(parts: readonly (readonly [type: string, value: string])[]): Name {
  const named = parts.map(([type, value]): JsonNameParams[number] => ({
    [type]: [type === "C" ? { printableString: value } : { utf8String: value }],
  }));
  return new Name(named);
}

/** Positive, and of that length. */
function newSerial(sizeBytes: number): string {
  const bytes = randomBytes(sizeBytes);
  bytes[0] = 0x40 + ((bytes[0] ?? 0) % 0x40);
  return bytes.toString("hex");
}
