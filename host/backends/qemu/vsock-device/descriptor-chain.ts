/** The pieces of guest memory that one entry of a ring stands for: first what we may read, then what we may write. */
import type { MappedRegion } from "./guest-memory.ts";

interface Segment {
  region: MappedRegion;
  offset: number;
  sizeBytes: number;
}

/** Used again for every entry, so that a packet costs no allocation. */
export class DescriptorChain {
  /** Index of its first descriptor: its name in the ring. */
  head = 0;
  readableBytes = 0;
  writableBytes = 0;
  readonly #segments: Segment[] = [];
  #count = 0;
  /** The segment at which reading or writing goes on, and how much of it is done. */
  #current = 0;
  #done = 0;

  restart(head: number): void {
    this.head = head;
    this.readableBytes = 0;
    this.writableBytes = 0;
    this.#count = 0;
    this.#current = 0;
    this.#done = 0;
  }

  add(region: MappedRegion, offset: number, sizeBytes: number): void {
    const segment = this.#segments[this.#count];
    if (segment === undefined) this.#segments.push({ region, offset, sizeBytes });
    else {
      segment.region = region;
      segment.offset = offset;
      segment.sizeBytes = sizeBytes;
    }
    this.#count += 1;
  }

  /** The next bytes into `target`; the caller has seen that there are as many. */
  read(target: Uint8Array, start: number, sizeBytes: number): void {
    for (let copied = 0; copied < sizeBytes;) {
      const { region, offset, sizeBytes: length } = this.#segment();
      const from = offset + this.#done;
      const part = Math.min(sizeBytes - copied, length - this.#done);
      target.set(region.bytes.subarray(from, from + part), start + copied);
      this.#pass(part, length);
      copied += part;
    }
  }

  /** Bytes of `source` into the next room; the caller has seen that there is as much. */
  write(source: Uint8Array, start: number, sizeBytes: number): void {
    for (let copied = 0; copied < sizeBytes;) {
      const { region, offset, sizeBytes: length } = this.#segment();
      const part = Math.min(sizeBytes - copied, length - this.#done);
      const from = start + copied;
      region.bytes.set(source.subarray(from, from + part), offset + this.#done);
      this.#pass(part, length);
      copied += part;
    }
  }

  #segment(): Segment {
    const segment = this.#segments[this.#current];
    if (segment === undefined || this.#current >= this.#count)
      throw new RangeError("beyond the end of a chain");
    return segment;
  }

  #pass(sizeBytes: number, length: number): void {
    this.#done += sizeBytes;
    if (this.#done < length) return;
    this.#current += 1;
    this.#done = 0;
  }
}
