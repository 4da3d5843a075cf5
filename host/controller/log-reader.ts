/** Reads what a runner wrote (host/runner/log-writer.ts), also while it writes and rotates. */
import { watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { isErrno } from "../../core/errors.ts";
import { type HostLogEntry, MAX_FILES } from "../runner/log-writer.ts";

const POLL_MS = 50;
const CHUNK_BYTES = 256 * 1024;

export interface LogFilter {
  readonly services?: readonly string[] | undefined;
  /** Entries from this time on, in milliseconds since the epoch. */
  readonly sinceMs?: number | undefined;
}

/** What is there now, oldest first; with `tail` the last entries only. */
export async function readLogs(
  directory: string,
  options: LogFilter & { readonly tail?: number | undefined },
): Promise<HostLogEntry[]> {
  const entries: HostLogEntry[] = [];
  const keep = options.tail ?? Number.POSITIVE_INFINITY;
  for (let index = MAX_FILES - 1; index >= 0; index -= 1) {
    await using tail = await openTail(join(directory, `${index}.ndjson`));
    if (tail === undefined) continue;
    for (let batch = await tail.read(); batch.length > 0; batch = await tail.read()) {
      entries.push(...batch.filter((entry) => matches(entry, options)));
      if (entries.length > keep * 2) entries.splice(0, entries.length - keep);
    }
  }
  return entries.slice(-Math.min(keep, entries.length) || entries.length);
}

/** Entries as they are written, after those that `skipExisting` leaves out, until the signal aborts and all is read. */
export async function* followLogs(
  directory: string,
  options: LogFilter & { readonly signal: AbortSignal; readonly skipExisting?: boolean },
): AsyncGenerator<HostLogEntry> {
  const newest = join(directory, "0.ndjson");
  let tail = await openTail(newest);
  if (options.skipExisting === true) await tail?.skipToEnd();
  const changes = watchFolder(directory);
  try {
    for (;;) {
      const isLast = options.signal.aborted;
      tail ??= await openTail(newest);
      const batch = (await tail?.read()) ?? [];
      yield* batch.filter((entry) => matches(entry, options));
      if (batch.length > 0) continue;
      if (tail !== undefined && (await tail.wasRotated(newest))) {
        await tail[Symbol.asyncDispose]();
        tail = undefined;
        continue;
      }
      if (isLast) return;
      await Promise.race([
        changes.next(),
        delay(POLL_MS, undefined, { signal: options.signal }).catch(() => undefined),
      ]);
    }
  } finally {
    changes.close();
    await tail?.[Symbol.asyncDispose]();
  }
}

/** A change of the folder wakes the reader; where watching is not possible the poll does. */
function watchFolder(directory: string): { next(): Promise<void>; close(): void } {
  let wake: (() => void) | undefined;
  const watcher = watch(directory, () => wake?.());
  watcher.on("error", () => undefined);
  return {
    next: async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      wake = resolve;
      await promise;
    },
    close: () => watcher.close(),
  };
}

function matches(entry: HostLogEntry, { services, sinceMs }: LogFilter): boolean {
  if (services !== undefined && services.length > 0 && !services.includes(entry.service)) return false;
  return sinceMs === undefined || entry.time >= sinceMs;
}

class LogTail implements AsyncDisposable {
  readonly #file: FileHandle;
  #offset = 0;
  #rest = Buffer.alloc(0);

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Whole entries that were written since the last read; empty if there are none. */
  async read(): Promise<HostLogEntry[]> {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    for (;;) {
      const { bytesRead } = await this.#file.read(chunk, 0, CHUNK_BYTES, this.#offset);
      if (bytesRead === 0) return [];
      this.#offset += bytesRead;
      const bytes = Buffer.concat([this.#rest, chunk.subarray(0, bytesRead)]);
      const end = bytes.lastIndexOf(0x0a);
      this.#rest = bytes.subarray(end + 1);
      if (end >= 0) return bytes.toString("utf8", 0, end).split("\n").map(parseEntry);
    }
  }

  async skipToEnd(): Promise<void> {
    this.#offset = (await this.#file.stat()).size;
  }

  async wasRotated(path: string): Promise<boolean> {
    await using current = await openFile(path);
    return current !== undefined && (await current.stat()).ino !== (await this.#file.stat()).ino;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** Our own runner wrote the line. */
function parseEntry(line: string): HostLogEntry {
  const entry: HostLogEntry = JSON.parse(line);
  return entry;
}

async function openTail(path: string): Promise<LogTail | undefined> {
  const file = await openFile(path);
  return file === undefined ? undefined : new LogTail(file);
}

async function openFile(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
