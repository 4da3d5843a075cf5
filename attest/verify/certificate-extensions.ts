/**
 * Extensions of a certificate: what its key may do. Each is SEQUENCE { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING },
 * and the last holds DER again. Two are understood; others are ignored, and refused if they are critical.
 */
import { AsnConvert } from "@peculiar/asn1-schema";
import { BasicConstraints, KeyUsage, KeyUsageFlags } from "@peculiar/asn1-x509";

import { isSameBytes, toHex } from "../../core/bytes.ts";
import { DER_TAG, type DerElement, DerError, readDer } from "../../wire/der/der-reader.ts";
import { DerSequence } from "../../wire/der/der-sequence.ts";

export interface CertificateExtensions {
  readonly isAuthority: boolean;
  /** How many authorities may stand between it and a leaf; null: any number. */
  readonly maxAuthoritiesBelow: number | null;
  readonly maySignCertificates: boolean;
  readonly maySignData: boolean;
}

const BASIC_CONSTRAINTS = "0603551d13";
const KEY_USAGE = "0603551d0f";

/** @param element [3] of a certificate's body; @throws DerError, and whatever libraries throw */
export function readExtensions(element: DerElement): CertificateExtensions {
  const values = collectValues(element);
  const constraints = readBasicConstraints(values.get(BASIC_CONSTRAINTS));
  const usage = readKeyUsage(values.get(KEY_USAGE));
  return {
    isAuthority: constraints.cA,
    maxAuthoritiesBelow: constraints.pathLenConstraint ?? null,
    maySignCertificates: (usage & KeyUsageFlags.keyCertSign) !== 0,
    maySignData: (usage & KeyUsageFlags.digitalSignature) !== 0,
  };
}

/** Values of the extensions that are understood, by hex of their OID. */
function collectValues(element: DerElement): ReadonlyMap<string, Uint8Array> {
  const wrapper = new DerSequence(element, element.tag, "extensions");
  const { children } = wrapper.take(DER_TAG.sequence);
  wrapper.end();
  const values = new Map<string, Uint8Array>();
  const seen = new Set<string>();
  for (const child of children) {
    const { oid, isCritical, value } = readExtension(child);
    if (seen.has(oid)) throw new DerError(`the extension ${oid} twice`, 0);
    seen.add(oid);
    if (oid === BASIC_CONSTRAINTS || oid === KEY_USAGE) values.set(oid, value);
    else if (isCritical) throw new DerError(`the critical extension ${oid} is not understood`, 0);
  }
  return values;
}

function readExtension(element: DerElement) {
  const extension = new DerSequence(element, DER_TAG.sequence, "extension");
  const oid = toHex(extension.take(DER_TAG.oid).bytes);
  const critical = extension.takeIf(DER_TAG.boolean);
  const value = extension.take(DER_TAG.octetString).content;
  extension.end();
  // FALSE is said by silence.
  if (critical?.content[0] === 0) throw new DerError(`the extension ${oid} is not in DER`, 0);
  return { oid, isCritical: critical !== undefined, value };
}

function readBasicConstraints(value: Uint8Array | undefined): BasicConstraints {
  if (value === undefined) return new BasicConstraints();
  readDer(value);
  const constraints = AsnConvert.parse(value, BasicConstraints);
  const { cA, pathLenConstraint } = constraints;
  if (!isSameBytes(new Uint8Array(AsnConvert.serialize(constraints)), value))
    throw new DerError("its basic constraints are not in DER", 0);
  if (
    pathLenConstraint !== undefined &&
    (!cA || !Number.isSafeInteger(pathLenConstraint) || pathLenConstraint < 0)
  )
    throw new DerError("its path length is no number, or that of no authority", 0);
  return constraints;
}

/** Flags of KeyUsage; none where there is no such extension. */
function readKeyUsage(value: Uint8Array | undefined): number {
  if (value === undefined) return 0;
  if (readDer(value).tag !== DER_TAG.bitString) throw new DerError("its key usage is no bit string", 0);
  return AsnConvert.parse(value, KeyUsage).toNumber();
}
