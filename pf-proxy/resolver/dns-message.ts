/**
 * Questions in DNS messages (RFC 1035), before a library may look at them: one question, plain labels, nothing else but
 * an OPT record (RFC 6891). Compression never occurs in a question, so a pointer is refused, and no loop can arise.
 *
 *   header    id (2)  flags (2)  counts of question, answer, authority, additional (2 each)
 *   question  labels (length, bytes), zero  type (2)  class (2)
 */
import { KitError } from "../../core/errors.ts";

export const DNS_HEADER_BYTES = 12;
export const MAX_DNS_MESSAGE_BYTES = 16 * 1024;
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
const QR = 0x8000;
const OPCODE = 0x7800;
const OPT = 41;
/** One OPT, and a key or two of others. */
const MAX_ADDITIONAL = 2;
const MIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 1232;

export interface DnsQuestion {
  readonly id: number;
  readonly recursionDesired: boolean;
  /** As it came; null where a label holds bytes that no host name has. */
  readonly name: string | null;
  readonly type: number;
  readonly class: number;
  /** The question's own bytes, to be sent back. */
  readonly bytes: Uint8Array;
  /** What the client takes over UDP; undefined without OPT. */
  readonly ednsBytes: number | undefined;
}

export type DnsRequest =
  | { readonly kind: "question"; readonly question: DnsQuestion }
  /** Worth an answer with this code: 1 malformed, 4 not implemented. */
  | { readonly kind: "refused"; readonly id: number; readonly code: 1 | 4 }
  /** Too broken to answer, or an answer itself. */
  | { readonly kind: "ignored" };

export function readRequest(message: Uint8Array): DnsRequest {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  if (bytes.length < DNS_HEADER_BYTES) return { kind: "ignored" };
  const id = bytes.readUInt16BE(0);
  const flags = bytes.readUInt16BE(2);
  if ((flags & QR) !== 0) return { kind: "ignored" };
  if ((flags & OPCODE) !== 0) return { kind: "refused", id, code: 4 };
  try {
    return { kind: "question", question: readQuestion(bytes, id, (flags & 0x0100) !== 0) };
  } catch (error) {
    if (error instanceof KitError) return { kind: "refused", id, code: 1 };
    throw error;
  }
}

function readQuestion(bytes: Buffer, id: number, recursionDesired: boolean): DnsQuestion {
  if (bytes.length > MAX_DNS_MESSAGE_BYTES) throw refuse("too long");
  const [questions, answers, authorities, additional] = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0 || (additional ?? 0) > MAX_ADDITIONAL)
    throw refuse("not one question");
  const { name, end } = readName(bytes, DNS_HEADER_BYTES);
  if (end + 4 > bytes.length) throw refuse("cut off");
  return {
    id,
    recursionDesired,
    name,
    type: bytes.readUInt16BE(end),
    class: bytes.readUInt16BE(end + 2),
    bytes: bytes.subarray(DNS_HEADER_BYTES, end + 4),
    ednsBytes: readAdditional(bytes, end + 4, additional ?? 0),
  };
}

function readName(bytes: Buffer, start: number): { readonly name: string | null; readonly end: number } {
  const labels: string[] = [];
  let isPlain = true;
  let at = start;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > MAX_LABEL_BYTES) throw refuse("a label is cut off or compressed");
    at += 1;
    if (length === 0) break;
    const label = bytes.subarray(at, at + length);
    if (label.length < length || at + length - start > MAX_NAME_BYTES)
      throw refuse("a name is cut off or too long");
    // A dot inside a label would look like two labels.
    isPlain &&= label.every((byte) => byte > 0x20 && byte < 0x7f && byte !== 0x2e);
    labels.push(label.toString("latin1"));
    at += length;
  }
  return { name: isPlain ? labels.join(".") : null, end: at };
}

/** Room that the client has, from its OPT. */
function readAdditional(bytes: Buffer, start: number, count: number): number | undefined {
  let at = start;
  let room: number | undefined;
  for (let index = 0; index < count; index += 1) {
    const { end } = readName(bytes, at);
    if (end + 10 > bytes.length) throw refuse("an additional record is cut off");
    const isOpt = bytes.readUInt16BE(end) === OPT;
    if (isOpt && room !== undefined) throw refuse("two OPT records");
    if (isOpt) room = Math.min(MAX_UDP_BYTES, Math.max(MIN_UDP_BYTES, bytes.readUInt16BE(end + 2)));
    at = end + 10 + bytes.readUInt16BE(end + 8);
    if (at > bytes.length) throw refuse("an additional record is cut off");
  }
  if (at !== bytes.length) throw refuse("bytes after the message");
  return room;
}

/** Most bytes of an answer over UDP. */
export function udpRoom({ ednsBytes }: DnsQuestion): number {
  return ednsBytes ?? MIN_UDP_BYTES;
}

function refuse(why: string): KitError {
  return new KitError("E_DNS_MESSAGE", `not a question: ${why}`);
}
