/** Signs PCR0 with an EC key, as AWS's tools do (wire/eif/signature-section.ts). */
import { createPrivateKey, type KeyObject, sign, X509Certificate } from "node:crypto";

import { KitError } from "../../core/errors.ts";
import {
  encodeSignatureSection,
  type SignatureAlgorithm,
  signedBytesOf,
} from "../../wire/eif/signature-section.ts";
import { checkValidity } from "./certificate-validity.ts";
import { measure } from "./measurements.ts";

export interface SigningInput {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export interface Signer {
  /** Measures the certificate. */
  readonly pcr8: string;
  /** The section's data. */
  sign(pcr0: Uint8Array): Buffer;
}

interface Curve {
  readonly algorithm: SignatureAlgorithm;
  readonly hash: string;
}

/** Algorithm and hash by curve, as OpenSSL calls them. */
export const CURVES: Readonly<Record<string, Curve>> = {
  prime256v1: { algorithm: "ES256", hash: "sha256" },
  secp384r1: { algorithm: "ES384", hash: "sha384" },
  secp521r1: { algorithm: "ES512", hash: "sha512" },
};

/** @throws E_EIF_SIGNING_KEY, E_EIF_CERTIFICATE_EXPIRED, E_EIF_CERTIFICATE_NOT_YET_VALID */
export function openSigner({ certificatePem, privateKeyPem }: SigningInput, at: Date): Signer {
  const certificate = readCertificate(certificatePem);
  const key = readKey(privateKeyPem);
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
  if (curve === undefined) throw keyError("the key is on none of the curves P-256, P-384 and P-521");
  if (!certificate.checkPrivateKey(key)) throw keyError("the certificate is for another key");
  checkValidity(certificate, at);
  const { algorithm, hash } = curve;
  return {
    pcr8: measure(certificate.raw),
    sign: (pcr0) => {
      const signature = sign(hash, signedBytesOf(algorithm, pcr0), { key, dsaEncoding: "ieee-p1363" });
      return encodeSignatureSection({ certificatePem: certificate.toString(), algorithm, pcr0, signature });
    },
  };
}

function readCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw keyError("the certificate is no X.509 certificate in PEM");
  }
}

/** The reason is left out: messages about keys may quote them. */
function readKey(pem: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === "ec") return key;
  } catch {
    throw keyError("the key cannot be read: it must be PEM, and not encrypted");
  }
  throw keyError("the key is no EC key");
}

function keyError(why: string): KitError {
  return new KitError("E_EIF_SIGNING_KEY", `cannot sign the image: ${why}`);
}
