/** Bytes of a guest that the host has not taken yet. Small packets share a block, or each would cost a whole object. */
import type { DescriptorChain } from "./descriptor-chain.ts";

const SHARED_BLOCK_BYTES = 8192;

interface Block {
  readonly bytes: Buffer;
  used: number;
}

export class InboundQueue {
  #blocks: Block[] = [];

  get isEmpty(): boolean {
    return this.#blocks.length === 0;
  }

  /** Copies the next bytes of a chain; the caller has seen that there are as many, and room in the window. */
  append(chain: DescriptorChain, sizeBytes: number): void {
    let left = sizeBytes;
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.used < last.bytes.length) {
      const part = Math.min(left, last.bytes.length - last.used);
      chain.read(last.bytes, last.used, part);
      last.used += part;
      left -= part;
    }
    if (left === 0) return;
    // The first packet of a turn is mostly the only one, so it gets no more than it needs.
    const room = this.#blocks.length === 0 ? left : Math.max(left, SHARED_BLOCK_BYTES);
    const bytes = Buffer.allocUnsafeSlow(room);
    chain.read(bytes, 0, left);
    this.#blocks.push({ bytes, used: left });
  }

  shift(): Buffer | undefined {
    const block = this.#blocks.shift();
    return block?.bytes.subarray(0, block.used);
  }

  clear(): void {
    this.#blocks = [];
  }
}
