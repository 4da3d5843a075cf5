/** Numbers that follow from a seed alone, so that a failure can be had again (xorshift32). */
export class RandomSource {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e_37_79_b9) >>> 0 || 1;
  }

  u32(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state;
  }

  below(end: number): number {
    return this.u32() % end;
  }

  isOnce(in_: number): boolean {
    return this.below(in_) === 0;
  }

  pick<T>(items: readonly [T, ...T[]]): T {
    return items[this.below(items.length)] ?? items[0];
  }

  /** Mostly small or at the edges, where mistakes are. */
  edge(): number {
    return this.pick([0, 1, this.below(64), this.below(70_000), 0x7f_ff_ff_ff, 0xff_ff_ff_ff, this.u32()]);
  }
}
