/** Changes to valid messages where parsers go wrong: lengths, ends, repetitions, and pieces of the protocol itself. */
import type { RandomSource } from "../vsock-fuzz/random-source.ts";

export interface Mutation {
  /** Pieces that mean something in the protocol. */
  readonly words: readonly [Buffer, ...Buffer[]];
  readonly maxBytes: number;
}

/** One valid message in eight stays as it is. */
export function mutate(random: RandomSource, message: Buffer, { words, maxBytes }: Mutation): Buffer {
  let bytes = message;
  if (random.isOnce(8)) return bytes;
  for (let left = 1 + random.below(4); left > 0; left -= 1) bytes = mutateOnce(random, bytes, words);
  return bytes.subarray(0, maxBytes);
}

function mutateOnce(random: RandomSource, bytes: Buffer, words: Mutation["words"]): Buffer {
  const at = random.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + random.below(1 + random.pick([1, 4, 64, 4096])));
  switch (random.below(8)) {
    case 0:
      return setNumber(random, bytes, at);
    case 1:
      return replace(bytes, [at, end], Buffer.alloc(0));
    case 2:
      return replace(bytes, [at, at], bytes.subarray(at, end));
    case 3:
      return replace(bytes, [at, at], random.pick(words));
    case 4:
      return replace(bytes, [at, Math.min(bytes.length, at + 1)], Buffer.of(random.below(256)));
    case 5:
      return bytes.subarray(0, at);
    case 6:
      return replace(
        bytes,
        [at, at],
        Buffer.alloc(random.pick([1, 16, 300, 9000, 20_000]), random.below(256)),
      );
    default:
      return flipBit(random, bytes, at);
  }
}

/** A length that lies: nothing, the edges, a little more or less. */
function setNumber(random: RandomSource, bytes: Buffer, at: number): Buffer {
  const sizeBytes = random.pick([1, 2, 3]);
  if (at + sizeBytes > bytes.length) return bytes;
  const copy = Buffer.from(bytes);
  const known = copy.readUIntBE(at, sizeBytes);
  const value = random.pick([0, 1, known + 1, known - 1, 0x4000, 0x4001, 0xffffff, random.u32()]);
  copy.writeUIntBE((value >>> 0) % 256 ** sizeBytes, at, sizeBytes);
  return copy;
}

function flipBit(random: RandomSource, bytes: Buffer, at: number): Buffer {
  if (at === bytes.length) return bytes;
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
  return copy;
}

function replace(bytes: Buffer, [from, to]: readonly [number, number], middle: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, from), middle, bytes.subarray(to)]);
}

/** The same bytes in chunks: mostly few, sometimes one for each byte of the beginning. */
export function split(random: RandomSource, bytes: Buffer): readonly Buffer[] {
  const chunks: Buffer[] = [];
  const most = random.pick([1, 7, 100, 2000, 70_000]);
  for (let at = 0; at < bytes.length;) {
    const size = chunks.length > 200 ? bytes.length : 1 + random.below(most);
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}
