/**
 * The name under which OpenSSL looks a certificate up in a folder (`openssl x509 -subject_hash`): the first four bytes,
 * little-endian, of SHA-1 over the subject in canonical form. Canonical (crypto/x509/x_name.c): the RDNs one after the
 * other without the outer SEQUENCE, text values as UTF8String in lower case with single spaces and none at the ends.
 */
import { createHash } from "node:crypto";
import { KitError } from "../core/errors.ts";

const SEQUENCE = 0x30;
const SET = 0x31;
const UTF8_STRING = 0x0c;
const VERSION = 0xa0;
const MAX_RDNS = 64;

interface DerValue {
  readonly tag: number;
  readonly content: Buffer;
  /** Header and content. */
  readonly whole: Buffer;
}

/** @param der one X.509 certificate. @returns eight hex digits. @throws E_IMAGE_PACKAGE_CONTENT */
export function hashSubjectName(der: Uint8Array): string {
  const [certificate] = readValues(Buffer.from(der.buffer, der.byteOffset, der.byteLength));
  const [tbs] = readValues(certificate?.content ?? Buffer.alloc(0));
  const fields = readValues(tbs?.content ?? Buffer.alloc(0));
  // serialNumber, signature, issuer, validity, subject; before them the version, if it is not 1.
  const subject = fields[fields[0]?.tag === VERSION ? 5 : 4];
  if (subject?.tag !== SEQUENCE) throw malformed();
  const rdns = readValues(subject.content);
  if (rdns.length > MAX_RDNS || rdns.some((rdn) => rdn.tag !== SET)) throw malformed();
  const canonical = Buffer.concat(rdns.map((rdn) => canonicalRdn(rdn)));
  const digest = createHash("sha1").update(canonical).digest();
  return digest.readUInt32LE(0).toString(16).padStart(8, "0");
}

function canonicalRdn(rdn: DerValue): Buffer {
  const attributes = readValues(rdn.content).map((attribute) => {
    const [type, value] = readValues(attribute.content);
    if (type === undefined || value === undefined) throw malformed();
    return encode(SEQUENCE, Buffer.concat([type.whole, canonicalValue(value)]));
  });
  return encode(SET, Buffer.concat(attributes.sort((a, b) => Buffer.compare(a, b))));
}

function canonicalValue(value: DerValue): Buffer {
  const text = decodeText(value);
  if (text === undefined) return value.whole;
  const single = text.replace(/^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$/g, "").replace(/[ \t\n\v\f\r]+/g, " ");
  const lower = single.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  return encode(UTF8_STRING, Buffer.from(lower, "utf8"));
}

/** Text of the string types that OpenSSL makes canonical; undefined for all others, which stay as they are. */
function decodeText({ tag, content }: DerValue): string | undefined {
  switch (tag) {
    case UTF8_STRING:
      return content.toString("utf8");
    case 0x13: // PrintableString
    case 0x14: // T61String, which OpenSSL takes as Latin-1
    case 0x16: // IA5String
    case 0x1a: // VisibleString
      return content.toString("latin1");
    case 0x1e: // BMPString
      return content.length % 2 === 0 ? Buffer.from(content).swap16().toString("utf16le") : undefined;
    default:
      return undefined;
  }
}

/** All values that stand one after the other in `bytes`. Definite lengths below 2^24 only, as DER certificates have. */
function readValues(bytes: Buffer): DerValue[] {
  const values: DerValue[] = [];
  for (let at = 0; at < bytes.length;) {
    const { length, headerBytes } = readLength(bytes, at);
    const end = at + headerBytes + length;
    if (end > bytes.length) throw malformed();
    values.push({
      tag: bytes.readUInt8(at),
      content: bytes.subarray(at + headerBytes, end),
      whole: bytes.subarray(at, end),
    });
    at = end;
  }
  return values;
}

function readLength(bytes: Buffer, at: number): { length: number; headerBytes: number } {
  const first = bytes[at + 1];
  if (first === undefined) throw malformed();
  if (first < 0x80) return { length: first, headerBytes: 2 };
  const count = first & 0x7f;
  if (count < 1 || count > 3 || at + 2 + count > bytes.length) throw malformed();
  return { length: bytes.readUIntBE(at + 2, count), headerBytes: 2 + count };
}

function encode(tag: number, content: Buffer): Buffer {
  const header = [tag];
  if (content.length < 0x80) header.push(content.length);
  else if (content.length < 0x100) header.push(0x81, content.length);
  else header.push(0x82, content.length >> 8, content.length & 0xff);
  if (content.length > 0xffff) throw malformed();
  return Buffer.concat([Buffer.from(header), content]);
}

function malformed(): KitError {
  return new KitError("E_IMAGE_PACKAGE_CONTENT", "not a well-formed certificate");
}
