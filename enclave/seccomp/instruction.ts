/**
 * Classic BPF as the kernel's seccomp takes it (linux/filter.h, linux/seccomp.h): an array of
 *
 *   code (u16)  jt (u8)  jf (u8)  k (u32)        in host byte order, which is little-endian wherever we run
 *
 * A program has one accumulator and sees one thing only, struct seccomp_data, by loads of aligned 32-bit words:
 *
 *   0 system call number (i32)   4 architecture (u32)   8 instruction pointer (u64)   16 six arguments (u64 each)
 *
 * `jt` and `jf` say how many instructions to skip if the comparison holds or fails, 255 at most; JA skips `k`. The
 * last instruction is a return. The kernel takes 4096 instructions at most.
 */
export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

export const INSTRUCTION_BYTES = 8;
export const MAX_INSTRUCTIONS = 4096;
/** The farthest that a conditional jump reaches. */
export const MAX_BRANCH = 255;

/** The few operations that our programs use; all work on 32 bits. */
export const OPERATION = {
  /** Accumulator = word of struct seccomp_data at k. */
  load: 0x20,
  /** Accumulator &= k. */
  and: 0x54,
  /** Skips k. */
  jump: 0x05,
  ifEqual: 0x15,
  /** Unsigned. */
  ifAtLeast: 0x35,
  /** Ends the program with the verdict k. */
  return: 0x06,
} as const;

export const SECCOMP_DATA = {
  number: 0,
  architecture: 4,
  /** Low half of an argument, 0 to 5. */
  argumentLow: (index: number): number => 16 + 8 * index,
} as const;

/** Verdicts; where several filters are installed, the first in this order wins. */
export const VERDICT = {
  /** The whole process dies of SIGSYS, which no handler sees. Linux 4.14 and newer. */
  killProcess: 0x8000_0000,
  errno: (errno: number): number => 0x0005_0000 + errno,
  allow: 0x7fff_0000,
} as const;

export function encodeInstructions(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, { code, jt, jf, k }] of instructions.entries()) {
    const offset = index * INSTRUCTION_BYTES;
    view.setUint16(offset, code, true);
    view.setUint8(offset + 2, jt);
    view.setUint8(offset + 3, jf);
    view.setUint32(offset + 4, k, true);
  }
  return bytes;
}
