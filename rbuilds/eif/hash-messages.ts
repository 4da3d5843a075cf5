/**
 * What goes between a writer of images and its hashing thread (hasher-main.ts). The thread answers every block when it
 * is done with it, in order, and the end with the digests.
 */
export interface HasherData {
  readonly shared: SharedArrayBuffer;
  /** Whether the whole of every block goes into a SHA-256. */
  readonly withFile: boolean;
}

export interface HashBlock {
  /** In the shared memory, in bytes. */
  readonly offset: number;
  /** The parts of the whole block, one after another: where each ends, and whether it goes into PCR2. */
  readonly steps: readonly (readonly [end: number, inPcr2: boolean])[];
}

export type HashRequest = HashBlock | "end";

/** Lower-case hex. */
export interface OtherDigests {
  /** SHA-384 of what PCR2 measures. */
  readonly pcr2: string;
  /** SHA-256 of all blocks. */
  readonly file: string;
}

export type HashAnswer = "done" | OtherDigests;
