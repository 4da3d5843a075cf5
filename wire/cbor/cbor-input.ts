/** The bytes of a CBOR item, read from their beginning, and the heads of items in them (RFC 8949, section 3). */
import { ARGUMENT } from "./cbor-value.ts";

/** Why bytes are not CBOR as it was asked for. */
export class CborError extends Error {
  /** Position of the byte at which reading stopped. */
  readonly offset: number;

  constructor(why: string, offset: number) {
    super(`${why} (byte ${offset})`);
    this.name = "CborError";
    this.offset = offset;
  }
}

export interface CborHead {
  readonly major: number;
  /** Length, count or number; undefined: of indefinite length. */
  readonly argument: bigint | undefined;
}

/** Smallest argument that needs 1, 2, 4 and 8 bytes. */
const SMALLEST = [BigInt(ARGUMENT.one), 0x100n, 0x1_0000n, 0x1_0000_0000n];

/** Every method throws CborError where the bytes do not allow what it does. */
export class CborInput {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #shortestOnly: boolean;
  #offset = 0;

  constructor(bytes: Uint8Array, shortestOnly: boolean) {
    // Views of a Buffer would be Buffers.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#shortestOnly = shortestOnly;
  }

  peek(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw this.error("the end is missing");
    return byte;
  }

  head(): CborHead {
    const first = this.peek();
    this.skip(1);
    const [major, low] = [first >> 5, first & 31];
    if (low < ARGUMENT.one) return { major, argument: BigInt(low) };
    if (low === ARGUMENT.indefinite) return { major, argument: undefined };
    if (low > ARGUMENT.eight) throw this.error("a reserved length");
    const argument = this.#number(low - ARGUMENT.one);
    const smallest = SMALLEST[low - ARGUMENT.one] ?? 0n;
    if (this.#shortestOnly && argument < smallest)
      throw this.error(`${argument} in more bytes than it needs`);
    return { major, argument };
  }

  /** A view of the bytes. */
  take(sizeBytes: bigint): Uint8Array {
    const start = this.#offset;
    this.skip(sizeBytes);
    return this.#bytes.subarray(start, this.#offset);
  }

  skip(sizeBytes: bigint | number): void {
    if (sizeBytes > this.#bytes.length - this.#offset) throw this.error("the end is missing");
    this.#offset += Number(sizeBytes);
  }

  end(): void {
    if (this.#offset !== this.#bytes.length) throw this.error("bytes after the item");
  }

  error(why: string): CborError {
    return new CborError(why, this.#offset);
  }

  /** @param power of two: 1, 2, 4 or 8 bytes */
  #number(power: number): bigint {
    const at = this.#offset;
    this.skip(1 << power);
    switch (power) {
      case 0:
        return BigInt(this.#view.getUint8(at));
      case 1:
        return BigInt(this.#view.getUint16(at));
      case 2:
        return BigInt(this.#view.getUint32(at));
      default:
        return this.#view.getBigUint64(at);
    }
  }
}
