/**
 * Attested TLS: how a certificate carries the proof that its key lives in an enclave.
 *
 *   certificate (X.509 v3, self-signed; its names and signature prove nothing)
 *     subjectPublicKeyInfo   the key of the connection, made inside the enclave
 *     extension RA_TLS_OID   not critical; OCTET STRING { attestation document (COSE_Sign1, as NSM gave it) }
 *
 * The document has `public_key` = the certificate's SPKI and `user_data` of purpose `ra-tls` over it (purposes.ts), no
 * nonce. TLS itself proves that the peer has the private key, so document, key and connection belong together. Only
 * TLS 1.3 is spoken, always with a whole handshake: a resumed connection would show no certificate.
 */
import { KitError } from "../core/errors.ts";

/**
 * Under 2.25, where every number is one's own that was drawn as a UUID; drawn below 2^31, because libraries in use cut
 * greater arcs off without a word.
 */
export const RA_TLS_OID = "2.25.1508730479";
/** What NSM answers at most. */
export const MAX_EVIDENCE_BYTES = 0x3000;
export const RA_TLS_ALPN = "http/1.1";

const OCTET_STRING = 0x04;
/** A length in two further bytes; shorter documents do not exist (two certificates and a signature are longer). */
const LONG_LENGTH = 0x82;
const HEADER_BYTES = 4;
const MIN_EVIDENCE_BYTES = 256;

/** The extension's value. @throws RangeError for what no NSM answers */
export function encodeEvidence(document: Uint8Array): Uint8Array {
  if (!isEvidenceLength(document.length)) {
    throw new RangeError(`a document of ${document.length} bytes has no place in a certificate`);
  }
  const value = new Uint8Array(HEADER_BYTES + document.length);
  value.set([OCTET_STRING, LONG_LENGTH, document.length >> 8, document.length & 0xff]);
  value.set(document, HEADER_BYTES);
  return value;
}

/** The document in an extension's value; not looked into. @throws E_EVIDENCE_MISSING */
export function decodeEvidence(value: Uint8Array): Uint8Array {
  const [tag, form, high = 0, low = 0] = value;
  const length = high * 0x100 + low;
  const isWhole = tag === OCTET_STRING && form === LONG_LENGTH && value.length === HEADER_BYTES + length;
  if (isWhole && isEvidenceLength(length)) return value.subarray(HEADER_BYTES);
  throw new KitError(
    "E_EVIDENCE_MISSING",
    `the extension ${RA_TLS_OID} of the peer's certificate holds ${value.length} bytes that are no OCTET STRING of a document`,
  );
}

function isEvidenceLength(sizeBytes: number): boolean {
  return sizeBytes >= MIN_EVIDENCE_BYTES && sizeBytes <= MAX_EVIDENCE_BYTES;
}
