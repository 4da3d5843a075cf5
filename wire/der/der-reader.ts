/**
 * A strict reader of DER (X.690, section 10) for bytes that nobody vouches for. An element is
 *
 *   identifier   class (2 bits), constructed (1 bit), tag number (5 bits; greater numbers are refused)
 *   length       0 to 127, or 0x81 to 0x84 and that many bytes, always the shortest form, never indefinite
 *   content      elements if constructed, else a value whose one allowed form is checked for the types of X.509
 *
 * Libraries read BER, where one value has many forms; what passed here has one. Everything is a view of the input.
 */
export interface DerElement {
  /** The identifier byte. */
  readonly tag: number;
  /** Identifier, length and content. */
  readonly bytes: Uint8Array;
  readonly content: Uint8Array;
  /** Empty unless constructed. */
  readonly children: readonly DerElement[];
}

export const DER_TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Why bytes are not DER. */
export class DerError extends Error {
  constructor(why: string, offset: number) {
    super(`${why} (byte ${offset})`);
    this.name = "DerError";
  }
}

const CONSTRUCTED = 0x20;
const MAX_DEPTH = 12;

/** One element and nothing after it. @throws DerError, and nothing else for any bytes */
export function readDer(bytes: Uint8Array): DerElement {
  // Views of a Buffer would be Buffers.
  const input = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const element = readElement(input, 0, 0);
  if (element.bytes.length !== input.length) throw new DerError("bytes after the end", element.bytes.length);
  return element;
}

function readElement(input: Uint8Array, start: number, depth: number): DerElement {
  const tag = byteAt(input, start);
  if ((tag & 0x1f) === 0x1f) throw new DerError("a tag number above 30", start);
  if (depth > MAX_DEPTH) throw new DerError(`deeper than ${MAX_DEPTH}`, start);
  const { length, contentStart } = readLength(input, start + 1);
  const end = contentStart + length;
  if (end > input.length) throw new DerError("the end is missing", start);
  const content = input.subarray(contentStart, end);
  checkForm(tag, start);
  if ((tag & CONSTRUCTED) === 0) checkValue(tag, content, start);
  const children = (tag & CONSTRUCTED) === 0 ? [] : readChildren(content, depth);
  return { tag, bytes: input.subarray(start, end), content, children };
}

function readChildren(content: Uint8Array, depth: number): DerElement[] {
  const children: DerElement[] = [];
  for (let offset = 0; offset < content.length;) {
    const child = readElement(content, offset, depth + 1);
    children.push(child);
    offset += child.bytes.length;
  }
  return children;
}

function readLength(input: Uint8Array, at: number): { length: number; contentStart: number } {
  const first = byteAt(input, at);
  if (first < 0x80) return { length: first, contentStart: at + 1 };
  const count = first & 0x7f;
  if (count === 0) throw new DerError("an indefinite length", at);
  if (count > 4) throw new DerError(`a length of ${count} bytes`, at);
  let length = 0;
  for (let index = 1; index <= count; index += 1) length = length * 0x100 + byteAt(input, at + index);
  if (length < 0x80 || length < 0x100 ** (count - 1))
    throw new DerError("a length in more bytes than it needs", at);
  return { length, contentStart: at + 1 + count };
}

function byteAt(input: Uint8Array, offset: number): number {
  const byte = input[offset];
  if (byte === undefined) throw new DerError("the end is missing", offset);
  return byte;
}

/** Sequences and sets hold elements; the other universal types do not, in DER. */
function checkForm(tag: number, at: number): void {
  const isUniversal = tag >> 6 === 0;
  const holdsElements = (tag & 0x1f) === 0x10 || (tag & 0x1f) === 0x11;
  if (isUniversal && holdsElements !== ((tag & CONSTRUCTED) !== 0))
    throw new DerError(`the tag 0x${tag.toString(16)}`, at);
}

function checkValue(tag: number, content: Uint8Array, at: number): void {
  const check = VALUES.get(tag);
  if (check !== undefined && !check(content)) throw new DerError(`a value of tag 0x${tag.toString(16)}`, at);
}

const VALUES: ReadonlyMap<number, (content: Uint8Array) => boolean> = new Map([
  [0x00, () => false],
  [DER_TAG.boolean, ([value, ...rest]) => rest.length === 0 && (value === 0 || value === 0xff)],
  [DER_TAG.integer, isShortestInteger],
  [DER_TAG.bitString, isBitString],
  [DER_TAG.null, (content) => content.length === 0],
  [DER_TAG.oid, isOid],
  [DER_TAG.utcTime, (content) => content.length === 13 && isTime(content)],
  [DER_TAG.generalizedTime, (content) => content.length === 15 && isTime(content)],
]);

function isShortestInteger(content: Uint8Array): boolean {
  const [first = 0, second = 0] = content;
  if (content.length < 2) return content.length === 1;
  return !(first === 0 && second < 0x80) && !(first === 0xff && second >= 0x80);
}

/** How many bits of the last byte are unused, then bytes; unused bits are zero. */
function isBitString(content: Uint8Array): boolean {
  const [unused = 8] = content;
  const last = content.length === 1 ? 0 : (content.at(-1) ?? 0);
  if (content.length === 1) return unused === 0;
  return unused < 8 && (last & ((1 << unused) - 1)) === 0;
}

/** Numbers of 7 bits a byte, the high bit where one goes on; none begins with zeros. */
function isOid(content: Uint8Array): boolean {
  let isFirst = true;
  for (const byte of content) {
    if (isFirst && byte === 0x80) return false;
    isFirst = byte < 0x80;
  }
  return content.length > 0 && isFirst;
}

/** Digits and a Z. */
function isTime(content: Uint8Array): boolean {
  return content.every((byte, index) =>
    index === content.length - 1 ? byte === 0x5a : byte >= 0x30 && byte <= 0x39,
  );
}

/** Milliseconds since the epoch of a UTCTime (1950 to 2049) or GeneralizedTime. @throws DerError */
export function readDerTime({ tag, content }: DerElement): number {
  if (tag !== DER_TAG.utcTime && tag !== DER_TAG.generalizedTime) throw new DerError("no time", 0);
  const text = String.fromCharCode(...content.subarray(0, -1));
  const century = tag === DER_TAG.generalizedTime ? "" : Number(text.slice(0, 2)) < 50 ? "20" : "19";
  const digits = century + text;
  const iso = digits.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/, "$1-$2-$3T$4:$5:$6.000Z");
  const timeMs = Date.parse(iso);
  // The 30th of February would be the 2nd of March.
  if (Number.isNaN(timeMs) || new Date(timeMs).toISOString() !== iso)
    throw new DerError(`the time ${digits}`, 0);
  return timeMs;
}
