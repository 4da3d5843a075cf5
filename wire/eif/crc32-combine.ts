/**
 * CRC-32/ISO-HDLC of two pieces put together, from the sums of the pieces: appending n zero bytes is a linear map over
 * the 32 bits of the sum, a power of the map for one bit (as zlib's crc32_combine).
 */
const POLYNOMIAL = 0xedb8_8320;

/** @param lengthBytes of the second piece */
export function combineCrc32(first: number, second: number, lengthBytes: number): number {
  let sum = first >>> 0;
  // Maps for 1, 2, 4, ... zero bytes, applied where the length has the bit.
  let map = square(square(square(oneZeroBit())));
  for (let left = lengthBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) sum = apply(map, sum);
    map = square(map);
  }
  return (sum ^ second) >>> 0;
}

/** Column i: what becomes of bit i. */
function oneZeroBit(): Uint32Array {
  return Uint32Array.from({ length: 32 }, (_, bit) => (bit === 0 ? POLYNOMIAL : 2 ** (bit - 1)));
}

function square(map: Uint32Array): Uint32Array {
  return map.map((column) => apply(map, column));
}

function apply(map: Uint32Array, bits: number): number {
  let result = 0;
  for (let bit = 0; bit < 32; bit++) if (((bits >>> bit) & 1) === 1) result ^= map[bit] ?? 0;
  return result >>> 0;
}
