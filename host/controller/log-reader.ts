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
  await using tails = await openTails(directory);
  return await readExisting(tails.files, options);
}

/** What is there now, with `tail` the last entries only, then what is written until the signal aborts and all is read. */
export async function* followLogs(
  directory: string,
  options: LogFilter & { readonly signal: AbortSignal; readonly tail?: number | undefined },
): AsyncGenerator<HostLogEntry> {
  const newest = join(directory, "0.ndjson");
  const changes = watchFolder(directory);
  await using tails = await openTails(directory);
  let tail = tails.files.at(-1);
  try {
    yield* await readExisting(tails.files, options);
    for (;;) {
      const isLast = options.signal.aborted;
      tail ??= await openTail(newest);
      // Asked before the read: what was written before the rotation is then read for certain.
      const wasRotated = tail !== undefined && (await tail.wasRotated(newest));
      const batch = (await tail?.read()) ?? [];
      yield* batch.filter((entry) => matches(entry, options));
      if (batch.length > 0) continue;
      if (wasRotated) {
        await tail?.[Symbol.asyncDispose]();
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

async function readExisting(
  tails: readonly LogTail[],
  options: LogFilter & { readonly tail?: number | undefined },
): Promise<HostLogEntry[]> {
  const entries: HostLogEntry[] = [];
  const keep = options.tail ?? Number.POSITIVE_INFINITY;
  for (const tail of tails) {
    for (let batch = await tail.read(); batch.length > 0; batch = await tail.read()) {
      entries.push(...batch.filter((entry) => matches(entry, options)));
      if (entries.length > keep * 2) entries.splice(0, entries.length - keep);
    }
  }
  return keep === 0 ? [] : entries.slice(-keep);
}

interface OpenTails extends AsyncDisposable {
  /** Oldest first. */
  readonly files: readonly LogTail[];
}

/** Opened from the newest on, so that a rotation meanwhile shows a file twice rather than not at all. */
async function openTails(directory: string): Promise<OpenTails> {
  const opened = new Map<number, LogTail>();
  for (let index = 0; index < MAX_FILES; index += 1) {
    const tail = await openTail(join(directory, `${index}.ndjson`));
    if (tail === undefined) continue;
    const inode = await tail.inode();
    if (opened.has(inode)) await tail[Symbol.asyncDispose]();
    else opened.set(inode, tail);
  }
  const files = [...opened.values()].reverse();
  return {
    files,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(files.map(async (tail) => await tail[Symbol.asyncDispose]()));
    },
  };
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

  /** Whole entries that were written since the last read; empty if there are none. A damaged line is left out. */
  async read(): Promise<HostLogEntry[]> {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    for (;;) {
      const { bytesRead } = await this.#file.read(chunk, 0, CHUNK_BYTES, this.#offset);
      if (bytesRead === 0) return [];
      this.#offset += bytesRead;
      const bytes = Buffer.concat([this.#rest, chunk.subarray(0, bytesRead)]);
      const end = bytes.lastIndexOf(0x0a);
      this.#rest = bytes.subarray(end + 1);
      const entries = end < 0 ? [] : bytes.toString("utf8", 0, end).split("\n").flatMap(parseEntry);
      if (entries.length > 0) return entries;
    }
  }

  async inode(): Promise<number> {
    return (await this.#file.stat()).ino;
  }

  async wasRotated(path: string): Promise<boolean> {
    await using current = await openFile(path);
    return current !== undefined && (await current.stat()).ino !== (await this.inode());
  }

  /** Can be closed twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** Our own runner wrote the line, but the disk may have been full, or the machine have failed, in the middle of it. */
function parseEntry(line: string): HostLogEntry[] {
  try {
    const entry: HostLogEntry = JSON.parse(line);
    return [entry];
  } catch {
    return [];
  }
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
