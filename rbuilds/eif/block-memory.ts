/**
 * The blocks through which an image passes on its way to the disk, shared with the hashing thread. A block is used
 * again when everybody is done with it, so that memory does not grow with the image.
 */
declare const WebAssembly: {
  readonly Memory: new (init: { initial: number; maximum: number; shared: true }) => {
    readonly buffer: SharedArrayBuffer;
  };
};

/** Measured: larger ones fall out of a processor's cache between two uses, smaller ones cost more messages. */
export const BLOCK_BYTES = 512 * 1024;
/** What the kernel may want of memory, offsets and lengths to write past its cache. */
export const ALIGNMENT_BYTES = 4096;

/** Measured: all of them together fit into a processor's own cache; more take a tenth more of its time. */
const BLOCKS = 4;
const WASM_PAGE_BYTES = 64 * 1024;

export class BlockMemory {
  /** All blocks, one after another. */
  readonly shared: SharedArrayBuffer;
  readonly #busy: (Promise<unknown> | undefined)[] = [];

  constructor() {
    // Memory of WebAssembly is the one kind that begins at a page.
    const pages = (BLOCKS * BLOCK_BYTES) / WASM_PAGE_BYTES;
    this.shared = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }).buffer;
  }

  /** The memory for the block of this number (from 0), when it is free. @throws why its last user failed */
  async take(index: number): Promise<Buffer> {
    const slot = index % BLOCKS;
    await this.#busy[slot];
    return Buffer.from(this.shared, slot * BLOCK_BYTES, BLOCK_BYTES);
  }

  /** Says when the memory of a block may be used again. */
  release(index: number, done: Promise<unknown>): void {
    done.catch(() => undefined); // told by take or drain
    this.#busy[index % BLOCKS] = done;
  }

  /** Waits for all blocks. @throws why one failed */
  async drain(): Promise<void> {
    for (const done of this.#busy) await done;
  }
}
