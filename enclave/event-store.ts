import type { EventEntry } from "../wire/control.ts";
import { MAX_READ_ENTRIES, type ReadPage } from "../wire/supervisor-frames.ts";
import { ChangeSignal } from "./change-signal.ts";
import { EntryRing, SEQ_PER_GENERATION } from "./entry-ring.ts";

const MAX_EVENTS = 4096;
const MAX_MESSAGE = 512;

export interface EventStoreOptions {
  readonly generation: number;
  readonly epochMs: () => number;
}

/** The last 4096 changes of this generation. */
export class EventStore {
  readonly changes = new ChangeSignal();
  readonly #ring = new EntryRing<EventEntry>({ entries: MAX_EVENTS, bytes: Number.POSITIVE_INFINITY });
  readonly #epochMs: () => number;
  readonly #firstSeq: number;
  #lastSeq: number;
  #closed = false;

  constructor({ generation, epochMs }: EventStoreOptions) {
    this.#firstSeq = generation * SEQ_PER_GENERATION;
    this.#lastSeq = this.#firstSeq;
    this.#epochMs = epochMs;
  }

  /** @param service null for the enclave itself. */
  add(service: string | null, message: string): void {
    this.#lastSeq += 1;
    const type = service === null ? "enclave" : "service";
    const oneLine = message.replaceAll(/[\r\n]+/g, " ").slice(0, MAX_MESSAGE);
    this.#ring.push({ seq: this.#lastSeq, time: this.#epochMs(), type, service, message: oneLine }, 0);
    this.changes.notify();
  }

  /** No more events will come. */
  close(): void {
    this.#closed = true;
    this.changes.notify();
  }

  read(afterSeq: number): ReadPage<EventEntry> {
    const after = Math.max(this.#firstSeq, afterSeq);
    const entries = [...this.#ring.entriesAfter(after)].slice(0, MAX_READ_ENTRIES);
    const next = entries.at(-1)?.seq ?? Math.max(after, this.#lastSeq);
    const dropped = this.#ring.evictedBetween(after, next);
    const last = this.#lastSeq;
    return { entries, next, dropped, last, final: this.#closed && next >= last };
  }
}
