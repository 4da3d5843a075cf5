/** The document in a certificate, wherever the certificate comes from. */
import { AsnConvert } from "@peculiar/asn1-schema";
import { Certificate } from "@peculiar/asn1-x509";

import { KitError } from "../../core/errors.ts";
import { decodeEvidence, MAX_EVIDENCE_BYTES, RA_TLS_OID } from "../../wire/ra-tls.ts";

/** Document, key, names and signature. */
const MAX_CERTIFICATE_BYTES = MAX_EVIDENCE_BYTES + 4096;

/**
 * Nothing is proven yet: neither the document nor that it belongs to the certificate's key.
 * @param der the certificate
 * @throws E_EVIDENCE_MISSING
 */
export function readEvidence(der: Uint8Array): Uint8Array {
  if (der.length > MAX_CERTIFICATE_BYTES) throw missing(`has ${der.length} bytes`);
  const extensions = parseCertificate(der).tbsCertificate.extensions ?? [];
  const found = extensions.filter((extension) => extension.extnID === RA_TLS_OID);
  const [extension] = found;
  if (extension === undefined) throw missing(`has no extension ${RA_TLS_OID}`);
  if (found.length > 1) throw missing(`has the extension ${RA_TLS_OID} more than once`);
  return decodeEvidence(new Uint8Array(extension.extnValue.buffer));
}

function parseCertificate(der: Uint8Array): Certificate {
  try {
    return AsnConvert.parse(der, Certificate);
  } catch (error) {
    throw missing("cannot be read", error);
  }
}

function missing(what: string, cause?: unknown): KitError {
  return new KitError("E_EVIDENCE_MISSING", `the peer's certificate ${what}`, { cause });
}
