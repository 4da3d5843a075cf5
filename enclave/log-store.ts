/**
 * What the services printed: one bounded ring each under one sequence of numbers, and a file each if there is room. A
 * service that floods overwrites its own lines and nobody else's.
 */
import type { LogEntry } from "../wire/control.ts";
import { isOwnProcess } from "../wire/own-processes.ts";
import { type LogsRead, MAX_READ_ENTRIES, type ReadPage } from "../wire/supervisor-frames.ts";
import { ChangeSignal } from "./change-signal.ts";
import { EntryRing, type RingLimits, SEQ_PER_GENERATION } from "./entry-ring.ts";
import { LineSplitter } from "./line-splitter.ts";

export type LogStream = LogEntry["stream"];

/** Receives the lines that are also kept elsewhere. */
export interface LogFileSink {
  append(entry: LogEntry): void;
}

export interface LogStoreOptions {
  readonly generation: number;
  readonly epochMs: () => number;
  readonly limits?: RingLimits;
  readonly openFile?: (service: string) => LogFileSink;
}

/** Of each service: 1 MiB of lines, at most 10,000. */
const RING_LIMITS: RingLimits = { entries: 10_000, bytes: 1024 * 1024 };

export class LogStore {
  readonly changes = new ChangeSignal();
  readonly #options: LogStoreOptions;
  readonly #rings = new Map<string, EntryRing<LogEntry>>();
  readonly #files = new Map<string, LogFileSink>();
  readonly #firstSeq: number;
  #lastSeq: number;
  #closed = false;

  constructor(options: LogStoreOptions) {
    this.#options = options;
    this.#firstSeq = options.generation * SEQ_PER_GENERATION;
    this.#lastSeq = this.#firstSeq;
  }

  /** A splitter that stores what one stream of one process prints. */
  openStream(service: string, stream: LogStream): LineSplitter {
    const ring = this.#ringOf(service);
    const file = this.#files.get(service);
    return new LineSplitter((line, partial) => {
      this.#lastSeq += 1;
      const entry: LogEntry = {
        seq: this.#lastSeq,
        time: this.#options.epochMs(),
        service,
        stream,
        line,
        ...(partial ? { partial } : {}),
      };
      ring.push(entry, Buffer.byteLength(line));
      file?.append(entry);
      this.changes.notify();
    });
  }

  /** No more lines will come. */
  close(): void {
    this.#closed = true;
    this.changes.notify();
  }

  read(request: Omit<LogsRead, "waitMs">): ReadPage<LogEntry> {
    const after = Math.max(this.#firstSeq, request.after);
    const rings = this.#selectRings(request.services);
    if (request.tail !== undefined) return this.#readTail(rings, after, request.limitBytes, request.tail);
    const entries = takeWithin(mergeAfter(rings, after), request.limitBytes);
    const next = entries.isWhole ? Math.max(after, this.#lastSeq) : (entries.taken.at(-1)?.seq ?? after);
    return this.#page(entries.taken, next, this.#countDropped(rings, after, next));
  }

  #readTail(
    rings: readonly EntryRing<LogEntry>[],
    after: number,
    limitBytes: number,
    tail: number,
  ): ReadPage<LogEntry> {
    const all = [...mergeAfter(rings, after)];
    const wanted = tail === 0 ? [] : all.slice(-tail);
    const entries = takeWithin(wanted, limitBytes);
    const next = entries.isWhole ? Math.max(after, this.#lastSeq) : (entries.taken.at(-1)?.seq ?? after);
    return this.#page(entries.taken, next, 0);
  }

  #page(entries: readonly LogEntry[], next: number, dropped: number): ReadPage<LogEntry> {
    const last = this.#lastSeq;
    return { entries, next, dropped, last, final: this.#closed && next >= last };
  }

  #selectRings(services: readonly string[] | undefined): EntryRing<LogEntry>[] {
    const isWanted = (name: string): boolean => services?.includes(name) ?? !isOwnProcess(name);
    return [...this.#rings].filter(([name]) => isWanted(name)).map(([, ring]) => ring);
  }

  /** Every number between the two that no ring holds was overwritten; of which ring is known only roughly. */
  #countDropped(rings: readonly EntryRing<LogEntry>[], after: number, next: number): number {
    let missing = next - after;
    for (const ring of this.#rings.values()) missing -= ring.countBetween(after, next);
    const ours = rings.reduce((sum, ring) => sum + ring.evictedBetween(after, next), 0);
    return Math.max(0, Math.min(missing, ours));
  }

  #ringOf(service: string): EntryRing<LogEntry> {
    const known = this.#rings.get(service);
    if (known !== undefined) return known;
    const ring = new EntryRing<LogEntry>(this.#options.limits ?? RING_LIMITS);
    this.#rings.set(service, ring);
    const file = this.#options.openFile?.(service);
    if (file !== undefined) this.#files.set(service, file);
    return ring;
  }
}

/** Entries of several rings in the order of their numbers. */
function* mergeAfter(rings: readonly EntryRing<LogEntry>[], after: number): Generator<LogEntry> {
  const heads = rings.map((ring) => {
    const entries = ring.entriesAfter(after);
    return { entries, head: entries.next() };
  });
  for (;;) {
    let first: (typeof heads)[number] | undefined;
    for (const candidate of heads) {
      if (candidate.head.done === true) continue;
      const isEarlier =
        first === undefined || first.head.done === true || candidate.head.value.seq < first.head.value.seq;
      if (isEarlier) first = candidate;
    }
    if (first === undefined || first.head.done === true) return;
    yield first.head.value;
    first.head = first.entries.next();
  }
}

/** As many entries as the limits allow, at least one; `isWhole` if none was left out. */
function takeWithin(
  entries: Iterable<LogEntry>,
  limitBytes: number,
): { taken: LogEntry[]; isWhole: boolean } {
  const taken: LogEntry[] = [];
  let sizeBytes = 0;
  for (const entry of entries) {
    sizeBytes += Buffer.byteLength(entry.line);
    const isFull = taken.length >= MAX_READ_ENTRIES || (sizeBytes > limitBytes && taken.length > 0);
    if (isFull) return { taken, isWhole: false };
    taken.push(entry);
  }
  return { taken, isWhole: true };
}
