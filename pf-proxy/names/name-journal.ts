/**
 * The journal of a name table: one canonical name a line, in the order in which they got their addresses. It lets the next
 * gateway of the same enclave give the same addresses; it lies in the enclave's memory and ends with it.
 *
 * A gateway may be killed in the middle of a line. What comes after anything that is no line of ours is not believed, and
 * is cut off before more is written, because a new line behind a torn one would make a name of two.
 */
import { appendFile, open, truncate } from "node:fs/promises";
import { buffer } from "node:stream/consumers";

import { isCanonicalHostName } from "../policy/host-name.ts";

/** More than the longest names fill. */
const MAX_JOURNAL_BYTES = 17 * 1024 * 1024;

export class NameJournal {
  readonly #path: string;
  /** Of lines that are whole. */
  #sizeBytes: number;
  #isTorn = false;

  private constructor(path: string, sizeBytes: number) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
  }

  /** Makes the file if there is none. @returns the names of earlier runs, at most `maxNames`. @throws errno */
  static async open(
    path: string,
    maxNames: number,
  ): Promise<{ readonly journal: NameJournal; readonly names: readonly string[] }> {
    await using file = await open(path, "a+", 0o600);
    const content = await buffer(
      file.createReadStream({ start: 0, end: MAX_JOURNAL_BYTES - 1, autoClose: false }),
    );
    const names = readLines(content.toString("latin1"), maxNames);
    const sizeBytes = names.reduce((sum, name) => sum + name.length + 1, 0);
    await file.truncate(sizeBytes);
    return { journal: new NameJournal(path, sizeBytes), names };
  }

  /** One call at a time. What a failed call wrote is gone before the next one writes. @throws errno */
  async append(names: readonly string[]): Promise<void> {
    const text = names.map((name) => `${name}\n`).join("");
    if (this.#isTorn) await truncate(this.#path, this.#sizeBytes);
    this.#isTorn = true;
    await appendFile(this.#path, text);
    this.#isTorn = false;
    this.#sizeBytes += text.length;
  }
}

function readLines(text: string, maxNames: number): readonly string[] {
  const names = new Set<string>();
  for (const line of text.split("\n").slice(0, -1)) {
    if (names.size >= maxNames || names.has(line) || !isCanonicalHostName(line)) break;
    names.add(line);
  }
  return [...names];
}
