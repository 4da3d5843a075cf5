/**
 * Certificates as NSMs have them: X.509 version 3 in DER, a key on P-384, signed by ECDSA with SHA-384 (RFC 5280, 5480).
 *
 *   Certificate     SEQUENCE { TBSCertificate, algorithm, signature BIT STRING }
 *   TBSCertificate  SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, key, [3] extensions }
 *
 * Everything else that X.509 allows is refused, because no NSM makes it.
 */
import { AsnConvert } from "@peculiar/asn1-schema";
import { Name } from "@peculiar/asn1-x509";

import { toHex } from "../../core/bytes.ts";
import { KitError } from "../../core/errors.ts";
import { DER_TAG, type DerElement, DerError, readDer, readDerTime } from "../../wire/der/der-reader.ts";
import { DerSequence } from "../../wire/der/der-sequence.ts";
import { type CertificateExtensions, readExtensions } from "./certificate-extensions.ts";
import { toRawSignature } from "./ecdsa-signature.ts";

export interface Certificate extends CertificateExtensions {
  /** DER of the names. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly spki: Uint8Array;
  /** What the issuer has signed. */
  readonly signedBytes: Uint8Array;
  /** r || s */
  readonly signature: Uint8Array;
}

const VERSION = 0xa0;
const EXTENSIONS = 0xa3;
const { sequence, integer, bitString } = DER_TAG;
const VERSION_3 = "a003020102";
const ECDSA_WITH_SHA384 = "300a06082a8648ce3d040303";
/** An uncompressed point on P-384 follows, 96 bytes. */
const P384_KEY = "3076301006072a8648ce3d020106052b8104002203620004";
const SPKI_BYTES = 120;
/** A number of 20 bytes, and the zero before one whose first bit is set: AWS has such. */
const MAX_SERIAL_BYTES = 21;
const MAX_SUBJECT_CHARACTERS = 300;

/**
 * The parts of the result are views of `der`. Nothing is verified but the form.
 * @param where how to call it in messages
 * @throws E_EVIDENCE_CERTIFICATE
 */
export function readCertificate(der: Uint8Array, where: string): Certificate {
  try {
    return parseCertificate(der);
  } catch (error) {
    throw toRefusal(error, where);
  }
}

/** Libraries throw all sorts. */
function toRefusal(error: unknown, where: string): KitError {
  const why = error instanceof Error ? error.message : String(error);
  return new KitError("E_EVIDENCE_CERTIFICATE", `${where}: ${why.slice(0, 200)}`, { cause: error });
}

function parseCertificate(der: Uint8Array): Certificate {
  const whole = new DerSequence(readDer(der), sequence, "certificate");
  const body = whole.take(sequence);
  expectBytes(whole.take(sequence), ECDSA_WITH_SHA384, "it is not signed by ECDSA with SHA-384");
  const signature = toRawSignature(readWholeBytes(whole.take(bitString).content));
  whole.end();
  return { ...readBody(body), signedBytes: body.bytes, signature };
}

function readBody(element: DerElement): Omit<Certificate, "signedBytes" | "signature"> {
  const body = new DerSequence(element, sequence, "body of the certificate");
  expectBytes(body.takeIf(VERSION), VERSION_3, "its version is not 3");
  expectSerial(body.take(integer).content);
  expectBytes(body.take(sequence), ECDSA_WITH_SHA384, "it is not signed by ECDSA with SHA-384");
  const issuer = body.take(sequence).bytes;
  const validity = readValidity(body.take(sequence));
  const subject = body.take(sequence).bytes;
  const spki = readKey(body.take(sequence).bytes);
  const extensions = readExtensions(body.take(EXTENSIONS));
  body.end();
  return { issuer, subject, spki, ...validity, ...extensions };
}

function expectBytes(element: DerElement | undefined, hex: string, otherwise: string): void {
  if (element === undefined || toHex(element.bytes) !== hex) throw new DerError(otherwise, 0);
}

function expectSerial(content: Uint8Array): void {
  const isPositive = (content[0] ?? 0x80) < 0x80 && content.some((byte) => byte !== 0);
  if (!isPositive || content.length > MAX_SERIAL_BYTES)
    throw new DerError("its serial number is not a positive one of at most 20 bytes", 0);
}

function readValidity(element: DerElement): Pick<Certificate, "notBeforeMs" | "notAfterMs"> {
  const [notBefore, notAfter, ...rest] = element.children;
  if (notBefore === undefined || notAfter === undefined || rest.length > 0)
    throw new DerError("it has no validity", 0);
  return { notBeforeMs: readDerTime(notBefore), notAfterMs: readDerTime(notAfter) };
}

function readKey(spki: Uint8Array): Uint8Array {
  if (spki.length !== SPKI_BYTES || !toHex(spki).startsWith(P384_KEY))
    throw new DerError("its key is no point on P-384", 0);
  return spki;
}

/** A bit string of whole bytes. */
function readWholeBytes(content: Uint8Array): Uint8Array {
  if (content[0] !== 0) throw new DerError("its signature is not of whole bytes", 0);
  return content.subarray(1);
}

/** A name as text, for people: `CN=..., O=...`. @throws E_EVIDENCE_CERTIFICATE */
export function describeName(der: Uint8Array, where: string): string {
  try {
    return AsnConvert.parse(der, Name)
      .flatMap((part) =>
        [...part].map(({ type, value }) => `${ATTRIBUTES.get(type) ?? type}=${value.toString()}`),
      )
      .join(", ")
      .slice(0, MAX_SUBJECT_CHARACTERS);
  } catch (error) {
    throw toRefusal(error, where);
  }
}

const ATTRIBUTES: ReadonlyMap<string, string> = new Map([
  ["2.5.4.3", "CN"],
  ["2.5.4.6", "C"],
  ["2.5.4.7", "L"],
  ["2.5.4.8", "ST"],
  ["2.5.4.10", "O"],
  ["2.5.4.11", "OU"],
]);
