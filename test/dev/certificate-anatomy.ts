/** Certificates taken apart by the project's reader of DER, which no writer of certificates has a part in. */
import { DER_TAG, type DerElement, readDer, readDerTime } from "../../wire/der/der-reader.ts";

/** Only the types that AWS's certificates have; others are shown by their bytes. */
const OIDS: ReadonlyMap<string, string> = new Map([
  ["550403", "CN"],
  ["550406", "C"],
  ["550407", "L"],
  ["550408", "ST"],
  ["55040a", "O"],
  ["55040b", "OU"],
  ["551d13", "basicConstraints"],
  ["551d0e", "subjectKeyIdentifier"],
  ["551d23", "authorityKeyIdentifier"],
  ["551d0f", "keyUsage"],
  ["551d1f", "cRLDistributionPoints"],
  ["2a8648ce3d0201", "id-ecPublicKey"],
  ["2b81040022", "secp384r1"],
  ["2a8648ce3d040303", "ecdsa-with-SHA384"],
]);
const TAGS: ReadonlyMap<number, string> = new Map(
  Object.entries(DER_TAG).map(([name, tag]) => [tag, name] as const),
);

/** RFC 5280, section 4.2.1.3, from bit 0. */
const KEY_USAGES = ["digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign"]; // prettier-ignore

export interface NamePart {
  readonly type: string;
  readonly value: string;
}

export interface CertificateAnatomy {
  readonly serial: string;
  readonly issuer: readonly NamePart[];
  readonly subject: readonly NamePart[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Of the names of elements, from the body of the certificate. */
  readonly timeTypes: readonly string[];
  readonly signatureAlgorithms: readonly string[];
  readonly publicKey: string;
  /** `!keyUsage(digitalSignature)`: "!" is critical. */
  readonly extensions: readonly string[];
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
  /** Types, names and flags of everything there is, in order; lengths and values left out. */
  readonly skeleton: string;
}

export function dissect(der: Uint8Array): CertificateAnatomy {
  const certificate = readDer(der);
  const [body, outerAlgorithm] = parts(certificate);
  const [, serial, algorithm, issuer, validity, subject, keyInfo, extensions] = parts(body);
  const all = parts(parts(extensions)[0]).map(readExtension);
  const keyIdOf = (name: string): string | undefined => all.find((extension) => extension.name === name)?.keyId;
  return {
    serial: hex(serial?.content),
    issuer: readName(issuer),
    subject: readName(subject),
    notBeforeMs: timeOf(validity, 0),
    notAfterMs: timeOf(validity, 1),
    timeTypes: parts(validity).map(({ tag }) => TAGS.get(tag) ?? String(tag)),
    signatureAlgorithms: [algorithm, outerAlgorithm].map((each) => describeAlgorithm(each)),
    publicKey: describeAlgorithm(parts(keyInfo)[0]),
    extensions: all.map(({ shown }) => shown),
    subjectKeyId: keyIdOf("subjectKeyIdentifier"),
    authorityKeyId: keyIdOf("authorityKeyIdentifier"),
    skeleton: skeletonOf(certificate),
  };
} // prettier-ignore

function parts(element: DerElement | undefined): readonly DerElement[] {
  if (element === undefined || element.children.length === 0) throw new Error("no element with parts");
  return element.children;
}

function hex(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) throw new Error("no bytes");
  return Buffer.from(bytes).toString("hex");
}

function oidName(element: DerElement | undefined): string {
  return OIDS.get(hex(element?.content)) ?? hex(element?.content);
}

function describeAlgorithm(element: DerElement | undefined): string {
  return parts(element)
    .map((part) => oidName(part))
    .join(" ");
}

function timeOf(validity: DerElement | undefined, index: number): number {
  const time = parts(validity)[index];
  if (time === undefined) throw new Error("no time");
  return readDerTime(time);
}

function readName(name: DerElement | undefined): NamePart[] {
  return parts(name).map((set) => {
    const [type, value] = parts(parts(set)[0]);
    const kind = TAGS.get(value?.tag ?? 0) ?? "";
    return { type: `${oidName(type)} ${kind}`, value: Buffer.from(value?.content ?? []).toString() };
  });
}

interface ShownExtension {
  readonly name: string;
  readonly shown: string;
  readonly keyId: string | undefined;
}

function readExtension(element: DerElement): ShownExtension {
  const fields = parts(element);
  const name = oidName(fields[0]);
  const value = readDer(fields.at(-1)?.content ?? new Uint8Array());
  const isCritical = fields.length === 3;
  return { name, ...describeValue(name, value, `${isCritical ? "!" : ""}${name}`) };
}

function describeValue(name: string, value: DerElement, label: string): Omit<ShownExtension, "name"> {
  switch (name) {
    case "basicConstraints":
      return { shown: `${label}(${describeConstraints(value)})`, keyId: undefined };
    case "keyUsage":
      return { shown: `${label}(${readKeyUsage(value)})`, keyId: undefined };
    case "subjectKeyIdentifier":
      return { shown: label, keyId: hex(value.content) };
    case "authorityKeyIdentifier":
      return { shown: label, keyId: hex(value.children[0]?.content) };
    default:
      return { shown: label, keyId: undefined };
  }
}

function describeConstraints({ children }: DerElement): string {
  const [isAuthority, pathLength] = children;
  if (isAuthority?.content[0] !== 0xff) return "CA:FALSE";
  return pathLength === undefined ? "CA:TRUE" : `CA:TRUE, pathlen:${Number(`0x${hex(pathLength.content)}`)}`;
}

function readKeyUsage({ content }: DerElement): string {
  const bits = [...content.subarray(1)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return KEY_USAGES.filter((_name, index) => bits[index] === "1").join(", ");
}

/** Values that are a name or a flag are kept. What is in the octet string of an extension is DER again. */
function skeletonOf(element: DerElement, isInside = false): string {
  const kind = TAGS.get(element.tag) ?? `[0x${element.tag.toString(16)}]`;
  if (element.children.length > 0)
    return `${kind}{${element.children.map((child) => skeletonOf(child, isInside)).join(" ")}}`;
  if (element.tag === DER_TAG.oid) return oidName(element);
  if (element.tag === DER_TAG.boolean) return `boolean ${hex(element.content)}`;
  if (element.tag === DER_TAG.octetString && !isInside)
    return `${kind}{${skeletonOf(readDer(element.content), true)}}`;
  return kind;
}
