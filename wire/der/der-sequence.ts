import { type DerElement, DerError } from "./der-reader.ts";

/** What a constructed element holds, taken one after the other. */
export class DerSequence {
  readonly #what: string;
  readonly #children: readonly DerElement[];
  #next = 0;

  /** @param what how to call it in messages; @throws DerError if it has another tag */
  constructor(element: DerElement | undefined, tag: number, what: string) {
    if (element?.tag !== tag) throw new DerError(`no ${what}`, 0);
    this.#what = what;
    this.#children = element.children;
  }

  /** @throws DerError unless the next has this tag */
  take(tag: number): DerElement {
    const child = this.takeIf(tag);
    if (child === undefined)
      throw new DerError(`item ${this.#next} of the ${this.#what} is not as it must be`, 0);
    return child;
  }

  takeIf(tag: number): DerElement | undefined {
    const child = this.#children[this.#next];
    if (child?.tag !== tag) return undefined;
    this.#next += 1;
    return child;
  }

  /** @throws DerError unless everything was taken */
  end(): void {
    if (this.#next !== this.#children.length)
      throw new DerError(`more in the ${this.#what} than there may be`, 0);
  }
}
