/** First entry of a generation has this times the generation as seq, so that readers go on across restarts. */
export const SEQ_PER_GENERATION = 2 ** 40;

export interface RingLimits {
  readonly entries: number;
  readonly bytes: number;
}

interface Slot<Entry> {
  readonly entry: Entry;
  readonly sizeBytes: number;
}

/** A queue of entries with rising seq that forgets the oldest beyond its limits. */
export class EntryRing<Entry extends { readonly seq: number }> {
  readonly #limits: RingLimits;
  #slots: (Slot<Entry> | undefined)[] = [];
  #head = 0;
  #sizeBytes = 0;
  #evicted = 0;
  #lastEvictedSeq = 0;

  constructor(limits: RingLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#slots.length - this.#head;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  push(entry: Entry, sizeBytes: number): void {
    this.#slots.push({ entry, sizeBytes });
    this.#sizeBytes += sizeBytes;
    while (this.length > this.#limits.entries || this.#sizeBytes > this.#limits.bytes) {
      if (!this.#evictOldest()) break;
    }
    if (this.#head > 1024 && this.#head > this.#slots.length / 2) {
      this.#slots = this.#slots.slice(this.#head);
      this.#head = 0;
    }
  }

  /** The entries with `seq` above `after`, oldest first. */
  *entriesAfter(after: number): Generator<Entry> {
    for (let index = this.#indexAfter(after); index < this.#slots.length; index += 1) {
      const slot = this.#slots[index];
      if (slot !== undefined) yield slot.entry;
    }
  }

  /** Number of entries held with `after` < seq <= `until`. */
  countBetween(after: number, until: number): number {
    return this.#indexAfter(until) - this.#indexAfter(after);
  }

  /** At most so many entries with `after` < seq <= `until` were forgotten. */
  evictedBetween(after: number, until: number): number {
    return Math.max(0, Math.min(this.#evicted, Math.min(this.#lastEvictedSeq, until) - after));
  }

  #evictOldest(): boolean {
    const slot = this.#slots[this.#head];
    if (slot === undefined) return false;
    this.#slots[this.#head] = undefined;
    this.#head += 1;
    this.#sizeBytes -= slot.sizeBytes;
    this.#evicted += 1;
    this.#lastEvictedSeq = slot.entry.seq;
    return true;
  }

  /** Index of the first entry above `after`, by halving. */
  #indexAfter(after: number): number {
    let low = this.#head;
    let high = this.#slots.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#slots[middle]?.entry.seq ?? 0) > after) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
