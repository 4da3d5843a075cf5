/**
 * The server's key and certificate. A key is made for each certificate, lives in this process alone and is never written
 * anywhere; the names and the signature of the certificate say nothing, the document in it does (wire/ra-tls.ts).
 */
import type { webcrypto } from "node:crypto";

// Before @peculiar/x509, which declares its classes by it.
import "reflect-metadata";
import { Extension, X509CertificateGenerator } from "@peculiar/x509";

import { encodeEvidence, RA_TLS_OID } from "../wire/ra-tls.ts";

export interface TlsIdentity {
  /** PEM, for a TLS context. */
  readonly key: string;
  readonly cert: string;
}

/** A key without a certificate. */
export interface TlsKey {
  /** DER: what the document is over. */
  readonly spki: Uint8Array;
  readonly pair: webcrypto.CryptoKeyPair;
}

export interface CertificateContent {
  /** Common name; for people. */
  readonly name: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Absent: a certificate that proves nothing, so that somebody can be told why. */
  readonly document?: Uint8Array;
}

/** P-256: a handshake costs a twentieth of P-384's, and the document binds the key whatever it is. */
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const SERIAL_BYTES = 16;
const PEM_LINE = /.{1,64}/g;

export async function createTlsKey(): Promise<TlsKey> {
  const pair = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  return { spki: new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey)), pair };
}

/** A self-signed certificate for `key`. */
export async function issueIdentity({ pair }: TlsKey, content: CertificateContent): Promise<TlsIdentity> {
  const { name, notBeforeMs, notAfterMs, document } = content;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: createSerial(),
    name: [{ CN: [name] }],
    notBefore: new Date(notBeforeMs),
    notAfter: new Date(notAfterMs),
    keys: pair,
    signingAlgorithm: ALGORITHM,
    extensions: document === undefined ? [] : [evidenceExtension(document)],
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  return { key: toPem("PRIVATE KEY", pkcs8), cert: certificate.toString("pem") };
}

function evidenceExtension(document: Uint8Array): Extension {
  return new Extension(RA_TLS_OID, false, Buffer.from(encodeEvidence(document)));
}

/** Positive and random, as RFC 5280 wants it. */
function createSerial(): string {
  const bytes = crypto.getRandomValues(Buffer.alloc(SERIAL_BYTES));
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40);
  return bytes.toString("hex");
}

function toPem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(PEM_LINE) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
