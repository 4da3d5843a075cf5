/** Whether a signature section signs this image, and who signed. There is no chain: the certificate is its own root. */
import { verify, X509Certificate } from "node:crypto";

import { KitError } from "../../core/errors.ts";
import { decodeSignatureSection, type SignatureAlgorithm } from "../../wire/eif/signature-section.ts";
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
  const { certificatePem, algorithm, registerIndex, registerValue, signature, signedBytes } =
    decodeSignatureSection(section);
  if (registerIndex !== 0) throw refusal(`signs register ${registerIndex} instead of PCR0`);
  if (registerValue.toString("hex") !== pcr0)
    throw refusal(`is of another image: it signs PCR0 ${registerValue.toString("hex")}`);
  const certificate = readCertificate(certificatePem);
  const key = certificate.publicKey;
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
  if (curve?.algorithm !== algorithm) throw refusal(`is ${algorithm}, and its certificate has another key`);
  if (!verify(curve.hash, signedBytes, { key, dsaEncoding: "ieee-p1363" }, signature))
    throw refusal("is not by the key of its certificate");
  return {
    algorithm,
    certificate: describe(certificate),
    state: validityOf(certificate, at),
    pcr8: measure(certificate.raw),
  };
}

function readCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw refusal("has no X.509 certificate", cause);
  }
}

function describe(certificate: X509Certificate): CheckedSignature["certificate"] {
  return {
    subject: certificate.subject.replaceAll("\n", ", "),
    issuer: certificate.issuer.replaceAll("\n", ", "),
    notBefore: certificate.validFromDate.toISOString(),
    notAfter: certificate.validToDate.toISOString(),
    fingerprintSha256: certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

function refusal(why: string, cause?: unknown): KitError {
  return new KitError("E_EIF_SIGNATURE", `the signature of the image ${why}`, { cause });
}
