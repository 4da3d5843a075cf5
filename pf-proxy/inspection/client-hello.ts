/**
 * The name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3).
 *
 *   hello      version (2)  random (32)  session (1+n)  suites (2+n)  compressions (1+n)  extensions (2+n)
 *   extension  type (2)  length (2)  data
 *   SNI        list length (2)  { type 0 (1)  length (2)  name }
 *
 * Every length must come out exactly, and nothing may come twice: where two parsers could see two names, none counts.
 */
import { refuseStream } from "./refusal.ts";

const RANDOM_BYTES = 32;
const MAX_SESSION_BYTES = 32;
/** TLS 1.0 to 1.2; 1.3 says 1.2 here. */
const VERSIONS: readonly number[] = [0x0301, 0x0302, 0x0303];
const SERVER_NAME = 0;
/** RFC 9849, its drafts from 08 on, and encrypted_server_name before them. */
const ENCRYPTED: readonly number[] = [0xfe0d, 0xfe0c, 0xfe0b, 0xfe0a, 0xfe09, 0xfe08, 0xffce];
const HOST_NAME = 0;
const MAX_NAME_BYTES = 255;

export interface ClientHello {
  /** As it came, in ASCII; null without one. */
  readonly serverName: string | null;
  readonly isEncrypted: boolean;
}

/** @param bytes the body of the handshake message, whole. @throws E_EGRESS_INSPECTION */
export function parseClientHello(bytes: Buffer): ClientHello {
  const reader = new Reader(bytes);
  if (!VERSIONS.includes(reader.number(2))) throw refuseStream("its ClientHello has an unknown version");
  reader.take(RANDOM_BYTES);
  if (reader.vector(1).length > MAX_SESSION_BYTES)
    throw refuseStream("its ClientHello has a too long session");
  const suites = reader.vector(2);
  if (suites.length === 0 || suites.length % 2 !== 0)
    throw refuseStream("its ClientHello has half a cipher suite");
  if (reader.vector(1).length === 0) throw refuseStream("its ClientHello has no compression method");
  if (reader.isEmpty) return { serverName: null, isEncrypted: false };
  const extensions = new Reader(reader.vector(2));
  reader.assertEmpty();
  return readExtensions(extensions);
}

function readExtensions(reader: Reader): ClientHello {
  const seen = new Set<number>();
  let serverName: string | null = null;
  while (!reader.isEmpty) {
    const type = reader.number(2);
    const data = reader.vector(2);
    if (seen.has(type)) throw refuseStream("an extension of its ClientHello comes twice");
    seen.add(type);
    if (type === SERVER_NAME) serverName = readServerName(new Reader(data));
  }
  return { serverName, isEncrypted: ENCRYPTED.some((type) => seen.has(type)) };
}

/** The list has room for more names and other kinds; nobody sends them (RFC 8446 keeps one host name). */
function readServerName(reader: Reader): string {
  const list = new Reader(reader.vector(2));
  reader.assertEmpty();
  const type = list.number(1);
  const name = list.vector(2);
  if (!list.isEmpty) throw refuseStream("its ClientHello has more than one server name");
  const isText = name.every((byte) => byte > 0x20 && byte < 0x7f);
  if (type !== HOST_NAME || name.length === 0 || name.length > MAX_NAME_BYTES || !isText)
    throw refuseStream("its server name is no host name");
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
    if (!this.isEmpty) throw refuseStream("its ClientHello holds more than it says");
  }

  take(sizeBytes: number): Buffer {
    const end = this.#at + sizeBytes;
    if (end > this.#bytes.length) throw refuseStream("its ClientHello is cut off");
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
