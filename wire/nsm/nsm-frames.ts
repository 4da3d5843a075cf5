/**
 * The stream between an enclave and the development NSM of its host (vsock port 9002):
 *
 *   u32 big-endian length | that many bytes of CBOR
 *
 * each way, one answer to each request, in order. A message has at least a byte and at most NSM_REQUEST_MAX_BYTES or
 * NSM_RESPONSE_MAX_BYTES; whoever sends something else is hung up on.
 */
import { KitError } from "../../core/errors.ts";

const HEADER_BYTES = 4;

export function encodeNsmFrame(body: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32BE(body.length);
  frame.set(body, HEADER_BYTES);
  return frame;
}

/** Takes chunks as they come and gives whole messages. Never holds more than one frame and one chunk, if it is emptied after each. */
export class NsmFrameReader {
  readonly #maxBytes: number;
  #rest: Uint8Array = new Uint8Array();

  /** @param maxBytes of one message */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** True while there are bytes that are no whole message. */
  get isInFrame(): boolean {
    return this.#rest.length > 0;
  }

  push(chunk: Uint8Array): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
  }

  /** @returns undefined: more bytes are needed. @throws E_NSM_TRANSPORT for a length that no message may have, at once */
  next(): Uint8Array | undefined {
    if (this.#rest.length < HEADER_BYTES) return undefined;
    const sizeBytes = new DataView(this.#rest.buffer, this.#rest.byteOffset).getUint32(0);
    if (sizeBytes === 0 || sizeBytes > this.#maxBytes)
      throw new KitError(
        "E_NSM_TRANSPORT",
        `NSM: a message of ${sizeBytes} bytes; 1 to ${this.#maxBytes} can be`,
      );
    const end = HEADER_BYTES + sizeBytes;
    if (this.#rest.length < end) return undefined;
    const body = this.#rest.subarray(HEADER_BYTES, end);
    this.#rest = this.#rest.subarray(end);
    return body;
  }
}
