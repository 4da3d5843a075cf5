/** Files with more than one name, so that all names but the first become hard links of an archive. */
import type { BigIntStats } from "node:fs";

const MAX_REMEMBERED = 100_000;

interface KnownFile {
  readonly path: string;
  /** Names that have not come yet, if all of them are copied. */
  left: bigint;
}

/** Of at most MAX_REMEMBERED files at a time; further ones are copied once for each name. */
export class LinkTable {
  readonly #files = new Map<string, KnownFile>();

  /** The name under which this very file came before. */
  find(info: BigIntStats): string | undefined {
    if (!hasMoreNames(info)) return undefined;
    return this.#files.get(keyOf(info))?.path;
  }

  /** Call it once for each name, after `find`. */
  remember(info: BigIntStats, path: string): void {
    if (!hasMoreNames(info)) return;
    const key = keyOf(info);
    const known = this.#files.get(key);
    if (known === undefined) {
      if (this.#files.size < MAX_REMEMBERED) this.#files.set(key, { path, left: info.nlink - 1n });
      return;
    }
    known.left -= 1n;
    if (known.left === 0n) this.#files.delete(key);
  }
}

/** Links and special files are not linked to, though the kernel lets them have more names. */
function hasMoreNames(info: BigIntStats): boolean {
  return info.isFile() && info.nlink > 1n;
}

function keyOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}
