/**
 * Time that the host cannot turn back. The host sets the enclave's clock; documents carry the hypervisor's. So the newest
 * document's time is the least that it can be, and every check of validity inside asks here.
 */

/** The system clock against a document: somewhere in between, because the document was on its way for a while. */
interface Offset {
  readonly lowMs: number;
  readonly highMs: number;
}

export interface DocumentSighting {
  /** The document's own time. */
  readonly documentMs: number;
  /** How long the document was on its way, by a clock that nobody sets. */
  readonly elapsedMs: number;
}

export interface ClockReport {
  readonly documentTimeMs: number | null;
  readonly clockOffsetMs: number | null;
  readonly clockJumps: number;
}

/** An offset that moves by more between two documents is a jump: no clock drifts so fast in a minute or an hour. */
export const JUMP_MS = 2_000;

export class AttestedTime {
  readonly #nowMs: () => number;
  #newestMs: number | null = null;
  #offset: Offset | null = null;
  #jumps = 0;

  /** @param nowMs the system clock */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** To be asked by every check of validity: the system clock, but never before the newest document. */
  nowMs(): number {
    return Math.max(this.#nowMs(), this.#newestMs ?? 0);
  }

  /** Takes note of a document that came this moment. @returns by how much the system clock jumped; 0: it did not */
  observe({ documentMs, elapsedMs }: DocumentSighting): number {
    const highMs = this.#nowMs() - documentMs;
    const offset = { lowMs: highMs - elapsedMs, highMs };
    const movedMs = this.#offset === null ? 0 : distance(this.#offset, offset);
    const isJump = Math.abs(movedMs) > JUMP_MS;
    this.#newestMs = Math.max(this.#newestMs ?? 0, documentMs);
    this.#offset = offset;
    if (!isJump) return 0;
    this.#jumps += 1;
    return movedMs;
  }

  report(): ClockReport {
    return {
      documentTimeMs: this.#newestMs,
      clockOffsetMs: this.#offset === null ? null : Math.round(this.#offset.highMs),
      clockJumps: this.#jumps,
    };
  }
}

/** Between two ranges; 0 where they meet. */
function distance(before: Offset, after: Offset): number {
  if (after.lowMs > before.highMs) return after.lowMs - before.highMs;
  return after.highMs < before.lowMs ? after.highMs - before.lowMs : 0;
}
