/** Things that wait for their turn: the first has it until it is moved behind the others, or removed. */
export class RoundRobin<T> {
  readonly #waiting = new Set<T>();
  /** Kept between turns: one that began anew would pass over everything that was removed since. */
  #iterator = this.#waiting.values();
  #first: T | undefined;

  get first(): T | undefined {
    if (this.#first !== undefined || this.#waiting.size === 0) return this.#first;
    let next = this.#iterator.next();
    if (next.done === true) {
      this.#iterator = this.#waiting.values();
      next = this.#iterator.next();
    }
    this.#first = next.value;
    return this.#first;
  }

  /** Behind all others, unless it waits already. */
  add(item: T): void {
    this.#waiting.add(item);
  }

  remove(item: T): void {
    this.#waiting.delete(item);
    if (this.#first === item) this.#first = undefined;
  }

  /** Ends the turn of the first. */
  rotate(): void {
    const { first } = this;
    if (first === undefined) return;
    this.remove(first);
    this.add(first);
  }
}
