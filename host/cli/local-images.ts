/** What the commands about images share. */
import { renderBytes } from "../../core/text-table.ts";
import { type ImageStore, openImageStore } from "../../rbuilds/store/image-store.ts";
import { imageStorePath } from "../controller/image-store-path.ts";
import type { CommandContext } from "./command-context.ts";

const PROGRESS_MS = 200;
/** Of a digest in a table. */
const SHORT_DIGEST = 12;

export function openLocalImages({ toolkit }: CommandContext): ImageStore {
  return openImageStore(imageStorePath(toolkit));
}

/** Enough to tell images apart, and taken wherever a reference is. */
export function shortDigest(digest: string): string {
  return digest.slice(0, SHORT_DIGEST);
}

/** One line on a terminal: bytes so far, of how many where that is known, and how fast. */
export class TransferProgress {
  readonly #context: CommandContext;
  readonly #what: string;
  readonly #startedAt = performance.now();
  #shownAt = 0;

  constructor(context: CommandContext, what: string) {
    this.#context = context;
    this.#what = what;
  }

  report(bytes: number, totalBytes?: number): void {
    const now = performance.now();
    if (now - this.#shownAt < PROGRESS_MS) return;
    this.#shownAt = now;
    const rate = renderBytes((bytes * 1000) / Math.max(1, now - this.#startedAt));
    const total = totalBytes === undefined ? "" : ` of ${renderBytes(totalBytes)}`;
    this.#context.terminal.progress(`${this.#what} ${renderBytes(bytes)}${total}, ${rate}/s`);
  }
}
