/** Messages of a DNS client, byte for byte, also such as no library writes. */
import { decode, type DecodedPacket } from "dns-packet";

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  OPT: 41,
  SVCB: 64,
  HTTPS: 65,
  AXFR: 252,
  ANY: 255,
  unknown: 65_280,
} as const;

export const CODE = {
  ok: 0,
  malformed: 1,
  failure: 2,
  noSuchName: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16,
} as const;

export interface QuestionFields {
  readonly id?: number;
  readonly flags?: number;
  /** Questions, answers, authorities, additional. */
  readonly counts?: readonly [number, number, number, number];
  readonly name?: Uint8Array;
  readonly type?: number;
  readonly class?: number;
  readonly rest?: Uint8Array;
}

export function writeQuestion(fields: QuestionFields = {}): Buffer {
  const { id = 0x1234, flags = 0x0100, counts = [1, 0, 0, 0], name = writeName("a.test") } = fields;
  const { type = TYPE.A, class: inClass = 1, rest = new Uint8Array() } = fields;
  const numbers = (...values: readonly number[]): Buffer =>
    Buffer.from(values.flatMap((value) => [value >> 8, value & 0xff]));
  return Buffer.concat([numbers(id, flags, ...counts), name, numbers(type, inClass), rest]);
}

/** Labels are separated by dots; of Buffers each is a label. */
export function writeName(name: string | readonly Uint8Array[]): Buffer {
  const labels = typeof name === "string" ? name.split(".").map((label) => Buffer.from(label)) : name;
  return Buffer.concat([
    ...labels.flatMap((label) => [Uint8Array.of(label.length), label]),
    Uint8Array.of(0),
  ]);
}

/** An OPT record. */
export function writeOptions({ version = 0, data = new Uint8Array() } = {}): Buffer {
  const record = Buffer.from([
    0,
    0,
    TYPE.OPT,
    4,
    208,
    0,
    version,
    0,
    0,
    data.length >> 8,
    data.length & 0xff,
  ]);
  return Buffer.concat([record, data]);
}

/** With the code in whole: OPT has its upper bits. */
export function readAnswer(answer: Buffer | undefined): DecodedPacket & { readonly code: number } {
  if (answer === undefined) throw new Error("there is no answer");
  const packet = decode(answer);
  const options = packet.additionals?.find((record) => record.type === "OPT");
  const upper = options?.type === "OPT" ? options.extendedRcode : 0;
  return { ...packet, code: (answer.readUInt16BE(2) & 0x0f) | (upper << 4) };
}

/** A name of 253 characters, the most that there is. */
export function longestName(top: string): string {
  const label = "x".repeat(63);
  const name = `${label}.${label}.${label}.${label}`;
  return `${name.slice(0, 253 - top.length - 1)}.${top}`;
}
