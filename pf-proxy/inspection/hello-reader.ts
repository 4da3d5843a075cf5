/**
 * Finds the ClientHello at the beginning of a TLS connection (RFC 8446, 5.1).
 *
 *   record     type 22 (1)  version 3.0 to 3.4 (2)  length (2, 1 to 2^14)  fragment
 *   handshake  type 1 (1)  length (3)  ClientHello; split over as many records as the client likes
 *
 * The message ends where a record ends: what follows it in the same record would be read by some servers and not by
 * others. Each field is judged as soon as it is there, so garbage is not waited for.
 */
import { type ClientHello, parseClientHello } from "./client-hello.ts";
import { refuseStream } from "./refusal.ts";

/** From the first byte of the connection to the end of the ClientHello. Usual are 200 to 2,000. */
export const MAX_HELLO_BYTES = 16 * 1024;
const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;
const MAX_FRAGMENT_BYTES = 1 << 14;
const HANDSHAKE = 22;
const MAJOR = 3;
const MAX_MINOR = 4;
const CLIENT_HELLO = 1;

export class HelloReader {
  /** Where the first record begins that is not whole yet. */
  #at = 0;
  readonly #fragments: Buffer[] = [];
  #sizeBytes = 0;
  /** Of the message with its header, once it has told. */
  #wantedBytes: number | undefined;

  /** @param bytes all from the first byte on. Undefined: more are needed. @throws E_EGRESS_INSPECTION */
  read(bytes: Buffer): ClientHello | undefined {
    for (;;) {
      const start = this.#at + RECORD_HEADER_BYTES;
      const lengthBytes = readRecordHeader(bytes.subarray(this.#at, start));
      if (lengthBytes === undefined) return undefined;
      if (start + lengthBytes > MAX_HELLO_BYTES) throw tooLong();
      const fragment = bytes.subarray(start, start + lengthBytes);
      this.#wantedBytes ??= this.#readMessageHeader(fragment);
      const afterRecord = this.#sizeBytes + lengthBytes;
      if (this.#wantedBytes !== undefined && afterRecord > this.#wantedBytes)
        throw refuseStream("its ClientHello shares a record with something else");
      if (fragment.length < lengthBytes) return undefined;
      this.#fragments.push(fragment);
      this.#sizeBytes = afterRecord;
      this.#at = start + lengthBytes;
      if (afterRecord === this.#wantedBytes)
        return parseClientHello(Buffer.concat(this.#fragments).subarray(MESSAGE_HEADER_BYTES));
    }
  }

  /** @param fragment of the record after those that are whole, as far as it is there */
  #readMessageHeader(fragment: Buffer): number | undefined {
    // No fragment is empty, so four of them have the header.
    const header = Buffer.concat([...this.#fragments.slice(0, MESSAGE_HEADER_BYTES), fragment]);
    if (header.length > 0 && header[0] !== CLIENT_HELLO)
      throw refuseStream("its first TLS message is no ClientHello");
    if (header.length < MESSAGE_HEADER_BYTES) return undefined;
    const wantedBytes = MESSAGE_HEADER_BYTES + header.readUIntBE(1, 3);
    if (RECORD_HEADER_BYTES + wantedBytes > MAX_HELLO_BYTES) throw tooLong();
    return wantedBytes;
  }
}

/** Length of the fragment; undefined while the header is not whole. */
function readRecordHeader(header: Buffer): number | undefined {
  const [type = HANDSHAKE, major = MAJOR, minor = 0] = header;
  if (type !== HANDSHAKE || major !== MAJOR || minor > MAX_MINOR)
    throw refuseStream("it does not begin with a TLS handshake");
  if (header.length < RECORD_HEADER_BYTES) return undefined;
  const lengthBytes = header.readUInt16BE(3);
  if (lengthBytes === 0 || lengthBytes > MAX_FRAGMENT_BYTES)
    throw refuseStream("a TLS record has an impossible length");
  return lengthBytes;
}

function tooLong(): Error {
  return refuseStream(`its ClientHello is not over within ${MAX_HELLO_BYTES} bytes`);
}
