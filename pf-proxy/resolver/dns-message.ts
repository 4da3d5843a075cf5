/**
 * Questions in DNS messages (RFC 1035), before a library may look at them: one question, plain labels, nothing else but
 * an OPT record (RFC 6891) and a key. Compression never occurs in a question, so a pointer is refused, and no loop can
 * arise. What OPT, apart from its version, and keys say is not looked at.
 *
 *   header    id (2)  flags (2)  counts of question, answer, authority, additional (2 each)
 *   flags     response (1 bit)  opcode (4)  authoritative, truncated, recursion desired, available (1 each)  code (4)
 *   question  labels (length, bytes), zero  type (2)  class (2)
 *   record    labels, zero  type (2)  class (2)  TTL (4)  length (2)  data; the TTL of OPT is code, version, flags (2)
 */
import { KitError } from "../../core/errors.ts";

export const DNS_HEADER_BYTES = 12;
export const MAX_DNS_BYTES = { udp: 4096, tcp: 16 * 1024 } as const;
/** With the lengths of labels and the final zero. */
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
const FLAG = { response: 0x8000, opcode: 0x7800, recursionDesired: 0x0100 } as const;
const OPT = 41;
/** One OPT, and one key. */
const MAX_ADDITIONAL = 2;
const RECORD_BYTES = 10;

/** What an answer copies from its question. */
export interface DnsHeader {
  readonly id: number;
  /** The bits of the opcode, and whether recursion was desired, where they stand. */
  readonly kept: number;
}

export interface DnsQuestion extends DnsHeader {
  /** As it came, without a final dot; null where a label holds bytes that no host name has. */
  readonly name: string | null;
  /** For people: on one line, bytes that are not plain as \DDD (RFC 1035, 5.1). */
  readonly shown: string;
  readonly type: number;
  readonly class: number;
  /** The question's own bytes, to be sent back. */
  readonly bytes: Uint8Array;
  /** Of EDNS; undefined without OPT. */
  readonly ednsVersion: number | undefined;
}

export type DnsRequest =
  | { readonly kind: "question"; readonly question: DnsQuestion }
  /** Worth an answer with this code: 1 malformed, 4 not implemented. */
  | { readonly kind: "refused"; readonly header: DnsHeader; readonly code: 1 | 4 }
  /** Too broken to answer, or an answer itself. */
  | { readonly kind: "ignored" };

/** Any bytes; never throws. */
export function readRequest(message: Uint8Array, transport: keyof typeof MAX_DNS_BYTES): DnsRequest {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  if (bytes.length < DNS_HEADER_BYTES) return { kind: "ignored" };
  const flags = bytes.readUInt16BE(2);
  if ((flags & FLAG.response) !== 0) return { kind: "ignored" };
  const header = { id: bytes.readUInt16BE(0), kept: flags & (FLAG.opcode | FLAG.recursionDesired) };
  if ((flags & FLAG.opcode) !== 0) return { kind: "refused", header, code: 4 };
  try {
    if (bytes.length > MAX_DNS_BYTES[transport]) throw refuse("too long");
    return { kind: "question", question: readQuestion(bytes, header) };
  } catch (error) {
    if (error instanceof KitError) return { kind: "refused", header, code: 1 };
    throw error;
  }
}

function readQuestion(bytes: Buffer, header: DnsHeader): DnsQuestion {
  const [questions, answers, authorities, additional = 0] = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0 || additional > MAX_ADDITIONAL)
    throw refuse("not one question");
  const { labels, end } = readName(bytes, DNS_HEADER_BYTES);
  if (end + 4 > bytes.length) throw refuse("cut off");
  return {
    ...header,
    name: labels.every(isPlain) ? labels.map((label) => label.toString("latin1")).join(".") : null,
    shown: labels.map(showLabel).join(".") || ".",
    type: bytes.readUInt16BE(end),
    class: bytes.readUInt16BE(end + 2),
    bytes: bytes.subarray(DNS_HEADER_BYTES, end + 4),
    ednsVersion: readEdnsVersion(bytes, end + 4, additional),
  };
}

function readName(
  bytes: Buffer,
  start: number,
): { readonly labels: readonly Buffer[]; readonly end: number } {
  const labels: Buffer[] = [];
  let at = start;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > MAX_LABEL_BYTES) throw refuse("a label is cut off or compressed");
    at += 1;
    if (length === 0) return { labels, end: at };
    const label = bytes.subarray(at, at + length);
    at += length;
    // At least the final zero is to come.
    if (label.length < length || at - start >= MAX_NAME_BYTES) throw refuse("a name is cut off or too long");
    labels.push(label);
  }
}

/** A dot inside a label would look like two labels. */
function isPlain(label: Buffer): boolean {
  return label.every((byte) => byte > 0x20 && byte < 0x7f && byte !== 0x2e);
}

function showLabel(label: Buffer): string {
  return label
    .toString("latin1")
    .replaceAll(/[^!-~]|[.\\]/g, (byte) => `\\${String(byte.charCodeAt(0)).padStart(3, "0")}`);
}

function readEdnsVersion(bytes: Buffer, start: number, count: number): number | undefined {
  let at = start;
  let version: number | undefined;
  for (let index = 0; index < count; index += 1) {
    const { labels, end } = readName(bytes, at);
    if (end + RECORD_BYTES > bytes.length) throw refuse("an additional record is cut off");
    if (bytes.readUInt16BE(end) === OPT) {
      if (version !== undefined || labels.length > 0) throw refuse("two OPT records, or one with a name");
      version = bytes.readUInt8(end + 5);
    }
    at = end + RECORD_BYTES + bytes.readUInt16BE(end + 8);
    if (at > bytes.length) throw refuse("an additional record is cut off");
  }
  if (at !== bytes.length) throw refuse("bytes after the message");
  return version;
}

function refuse(why: string): KitError {
  return new KitError("E_DNS_MESSAGE", `not a question: ${why}`);
}
