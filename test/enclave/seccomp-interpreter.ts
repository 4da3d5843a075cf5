/**
 * Runs classic BPF as the kernel does for seccomp (seccomp_check_filter, bpf_check_classic), for tests: what the
 * kernel would refuse to install is refused here, and a program either gives a verdict or is at fault.
 */
const MAX_INSTRUCTIONS = 4096;
const DATA_BYTES = 64;

const LOAD_WORD = 0x20;
const AND = 0x54;
const JUMP_ALWAYS = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const RETURN = 0x06;

/** struct seccomp_data. */
export interface SystemCall {
  readonly number: number;
  readonly architecture: number;
  readonly instructionPointer?: bigint;
  readonly arguments?: readonly bigint[];
}

export interface Outcome {
  readonly verdict: number;
  /** Instructions executed. */
  readonly steps: number;
  /** Nothing but number and architecture was read: the kernel may remember the verdict for the number. */
  readonly constant: boolean;
}

interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** A program that passed the kernel's checks. */
export class SeccompProgram {
  readonly #instructions: readonly Instruction[];

  /** @throws Error the kernel would answer EINVAL */
  constructor(bytes: Uint8Array) {
    this.#instructions = decode(bytes);
    for (const index of this.#instructions.keys()) this.#check(index);
    if (this.#at(this.size - 1).code !== RETURN) throw new Error("the last instruction does not return");
  }

  get size(): number {
    return this.#instructions.length;
  }

  run(call: SystemCall): Outcome {
    const data = encodeData(call);
    let accumulator = 0;
    let constant = true;
    let index = 0;
    for (let steps = 1; steps <= this.size; steps++) {
      const { code, jt, jf, k } = this.#at(index++);
      if (code === RETURN) return { verdict: k, steps, constant };
      else if (code === JUMP_ALWAYS) index += k;
      else if (code === JUMP_EQUAL) index += accumulator === k ? jt : jf;
      else if (code === JUMP_AT_LEAST) index += accumulator >= k ? jt : jf;
      else if (code === AND) accumulator = (accumulator & k) >>> 0;
      else {
        accumulator = data.getUint32(k, true);
        if (k > 4) constant = false;
      }
    }
    throw new Error("the program went backwards");
  }

  #at(index: number): Instruction {
    const instruction = this.#instructions[index];
    if (instruction === undefined) throw new Error(`no instruction ${index}`);
    return instruction;
  }

  #check(index: number): void {
    const { code, jt, jf, k } = this.#at(index);
    const behind = this.size - index - 1;
    switch (code) {
      case LOAD_WORD:
        if (k % 4 !== 0 || k >= DATA_BYTES) throw new Error(`instruction ${index} loads from ${k}`);
        break;
      case JUMP_ALWAYS:
        if (k >= behind) throw new Error(`instruction ${index} jumps out of the program`);
        break;
      case JUMP_EQUAL:
      case JUMP_AT_LEAST:
        if (Math.max(jt, jf) >= behind) throw new Error(`instruction ${index} branches out of the program`);
        break;
      case AND:
      case RETURN:
        break;
      default:
        throw new Error(`instruction ${index} has the unknown code ${code}`);
    }
  }
}

function decode(bytes: Uint8Array): readonly Instruction[] {
  const count = bytes.length / 8;
  if (!Number.isInteger(count) || count < 1 || count > MAX_INSTRUCTIONS) {
    throw new Error(`${bytes.length} bytes are no program`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, index) => ({
    code: view.getUint16(index * 8, true),
    jt: view.getUint8(index * 8 + 2),
    jf: view.getUint8(index * 8 + 3),
    k: view.getUint32(index * 8 + 4, true),
  }));
}

function encodeData(call: SystemCall): DataView {
  const data = new DataView(new ArrayBuffer(DATA_BYTES));
  data.setUint32(0, call.number, true);
  data.setUint32(4, call.architecture, true);
  data.setBigUint64(8, call.instructionPointer ?? 0n, true);
  for (const [index, value] of (call.arguments ?? []).entries()) {
    data.setBigUint64(16 + 8 * index, value, true);
  }
  return data;
}
