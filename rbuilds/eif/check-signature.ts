/** Whether a signature section signs this image, and who signed. There is no chain: the certificate is its own root. */
import { type KeyObject, verify, X509Certificate } from "node:crypto";

import { KitError } from "../../core/errors.ts";
import {
  decodeSignatureSection,
  type EifSignature,
  type SignatureAlgorithm,
} from "../../wire/eif/signature-section.ts";
import { type Validity, validityOf } from "./certificate-validity.ts";
import { CURVES } from "./eif-signer.ts";
import { measure } from "./measurements.ts";

export interface CheckedSignature {
  readonly algorithm: SignatureAlgorithm;
  readonly certificate: {
    readonly subject: string;
    readonly issuer: string;
    /** ISO 8601. */
    readonly notBefore: string;
    readonly notAfter: string;
    /** Of the DER, lower-case hex. */
    readonly fingerprintSha256: string;
  };
  /** At the time that was asked for. */
  readonly state: Validity;
  readonly pcr8: string;
}

/** @throws E_EIF_SIGNATURE */
export function checkSignature(
  section: Uint8Array,
  { pcr0, at }: { readonly pcr0: string; readonly at: Date },
): CheckedSignature {
  const signature = decodeSignatureSection(section);
  const { registerIndex, registerValue, algorithm } = signature;
  if (registerIndex !== 0) throw refusal(`signs register ${registerIndex} instead of PCR0`);
  if (registerValue.toString("hex") !== pcr0)
    throw refusal(`is of another image: it signs PCR0 ${registerValue.toString("hex")}`);
  const certificate = readCertificate(signature.certificatePem);
  verifySignature(signature, certificate.key);
  return {
    algorithm,
    certificate: certificate.description,
    state: validityOf(certificate, at),
    pcr8: certificate.pcr8,
  };
}

function verifySignature({ algorithm, signedBytes, signature }: EifSignature, key: KeyObject): void {
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
  if (curve?.algorithm !== algorithm) throw refusal(`is ${algorithm}, and its certificate has another key`);
  if (!isSignedBy({ signature, signedBytes }, curve.hash, key))
    throw refusal("is not by the key of its certificate");
}

function isSignedBy(
  { signature, signedBytes }: Pick<EifSignature, "signature" | "signedBytes">,
  hash: string,
  key: KeyObject,
): boolean {
  try {
    return verify(hash, signedBytes, { key, dsaEncoding: "ieee-p1363" }, signature);
  } catch {
    return false; // OpenSSL's word for a signature that has no form
  }
}

interface ReadCertificate {
  readonly description: CheckedSignature["certificate"];
  readonly key: KeyObject;
  readonly pcr8: string;
  readonly validFromDate: Date;
  readonly validToDate: Date;
}

/** Everything that is asked of the certificate: each getter may find that it cannot be read. */
function readCertificate(pem: string): ReadCertificate {
  try {
    const certificate = new X509Certificate(pem);
    const { validFromDate, validToDate } = certificate;
    return {
      description: describe(certificate),
      key: certificate.publicKey,
      pcr8: measure(certificate.raw),
      validFromDate,
      validToDate,
    };
  } catch (cause) {
    throw refusal("has no X.509 certificate that can be read", cause);
  }
}

function describe(certificate: X509Certificate): CheckedSignature["certificate"] {
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    notBefore: certificate.validFromDate.toISOString(),
    notAfter: certificate.validToDate.toISOString(),
    fingerprintSha256: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

/** @param name undefined where the certificate's is empty, whatever the type says */
function oneLine(name: string | undefined): string {
  return name?.replaceAll("\n", ", ") ?? "";
}

function refusal(why: string, cause?: unknown): KitError {
  return new KitError("E_EIF_SIGNATURE", `the signature of the image ${why}`, { cause });
}
