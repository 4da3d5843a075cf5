/**
 * The name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), read from the first records of a connection.
 *
 *   record     type 22 (1)  version 3.x (2)  length (2, at most 2^14)  fragment
 *   handshake  type 1 (1)  length (3)  ClientHello, over as many records as it takes
 *   hello      version (2)  random (32)  session (1+n)  suites (2+n)  compressions (1+n)  extensions (2+n)
 *   extension  type (2)  length (2)  data
 *   SNI        list length (2)  { type 0 (1)  length (2)  name }
 */
import { KitError } from "../../core/errors.ts";

export const MAX_HELLO_BYTES = 16 * 1024;
/** A ClientHello in tiny records costs five bytes more for each. */
const MAX_RECORDS = 64;
const RECORD_HEADER_BYTES = 5;
const MAX_FRAGMENT_BYTES = 1 << 14;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const EXTENSION = {
  serverName: 0,
  encryptedHello: [0xfe0d, 0xfe0c, 0xfe0b, 0xfe0a, 0xfe09, 0xfe08, 0xffce],
} as const;

export interface ClientHello {
  /** As it came, in ASCII; null without one. */
  readonly serverName: string | null;
  readonly isEncrypted: boolean;
}

/** Undefined: more bytes are needed. @throws E_EGRESS_INSPECTION */
export function readClientHello(bytes: Buffer): ClientHello | undefined {
  const handshake = joinFragments(bytes);
  if (handshake === undefined) return undefined;
  return parseHello(new Reader(handshake));
}

/** Body of the first handshake message, once it is whole. */
function joinFragments(bytes: Buffer): Buffer | undefined {
  const fragments: Buffer[] = [];
  let sizeBytes = 0;
  for (let at = 0, count = 0; ; count += 1) {
    if (count > MAX_RECORDS) throw refuse("its ClientHello comes in too many records");
    const header = bytes.subarray(at, at + RECORD_HEADER_BYTES);
    checkRecord(header);
    if (header.length < RECORD_HEADER_BYTES) return undefined;
    const length = header.readUInt16BE(3);
    const fragment = bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
    fragments.push(fragment);
    sizeBytes += fragment.length;
    const wanted = messageBytes(fragments, sizeBytes);
    if (wanted !== undefined && sizeBytes >= wanted) return Buffer.concat(fragments).subarray(4, wanted);
    if (fragment.length < length) return undefined;
    at += RECORD_HEADER_BYTES + length;
  }
}

function checkRecord(header: Buffer): void {
  const [type, major, , high = 0, low] = header;
  if (type !== undefined && type !== HANDSHAKE) throw refuse("it does not begin with a TLS handshake");
  if (major !== undefined && major !== 3) throw refuse("it does not begin with a TLS handshake");
  const length = high * 256 + (low ?? 1);
  if (length === 0 || length > MAX_FRAGMENT_BYTES) throw refuse("a TLS record has an impossible length");
}

/** Size of the handshake message with its header, once that is there. */
function messageBytes(fragments: readonly Buffer[], sizeBytes: number): number | undefined {
  if (sizeBytes === 0) return undefined;
  const head = Buffer.concat(fragments.map((fragment) => fragment.subarray(0, 4)).slice(0, 4));
  if (head[0] !== CLIENT_HELLO) throw refuse("its first TLS message is no ClientHello");
  if (sizeBytes < 4) return undefined;
  const whole = fragments.length === 1 ? head : Buffer.concat(fragments).subarray(0, 4);
  const length = whole.readUIntBE(1, 3);
  if (length + 4 > MAX_HELLO_BYTES) throw refuse(`its ClientHello has more than ${MAX_HELLO_BYTES} bytes`);
  return length + 4;
}

function parseHello(reader: Reader): ClientHello {
  reader.take(34);
  reader.vector(1);
  reader.vector(2);
  reader.vector(1);
  if (reader.isEmpty) return { serverName: null, isEncrypted: false };
  const extensions = new Reader(reader.vector(2));
  reader.assertEmpty();
  const seen = new Set<number>();
  let serverName: string | null = null;
  while (!extensions.isEmpty) {
    const type = extensions.number(2);
    const data = extensions.vector(2);
    if (seen.has(type)) throw refuse("an extension of its ClientHello comes twice");
    seen.add(type);
    if (type === EXTENSION.serverName) serverName = readServerName(new Reader(data));
  }
  return { serverName, isEncrypted: EXTENSION.encryptedHello.some((type) => seen.has(type)) };
}

function readServerName(reader: Reader): string {
  const list = new Reader(reader.vector(2));
  reader.assertEmpty();
  const type = list.number(1);
  const name = list.vector(2);
  list.assertEmpty();
  if (type !== 0 || name.length === 0 || name.length > 255) throw refuse("its server name is no host name");
  if (name.some((byte) => byte <= 0x20 || byte >= 0x7f)) throw refuse("its server name is no host name");
  return name.toString("latin1");
}

/** Bytes from left to right; whatever ends too early refuses. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isEmpty(): boolean {
    return this.#at === this.#bytes.length;
  }

  assertEmpty(): void {
    if (!this.isEmpty) throw refuse("its ClientHello holds more than it says");
  }

  take(sizeBytes: number): Buffer {
    const end = this.#at + sizeBytes;
    if (end > this.#bytes.length) throw refuse("its ClientHello is cut off");
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  number(sizeBytes: number): number {
    return this.take(sizeBytes).readUIntBE(0, sizeBytes);
  }

  vector(lengthBytes: number): Buffer {
    return this.take(this.number(lengthBytes));
  }
}

function refuse(why: string): KitError {
  return new KitError("E_EGRESS_INSPECTION", why);
}
