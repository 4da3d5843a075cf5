/**
 * Log files inside the enclave: `<directory>/<service>.log`, then `.log.1` and `.log.2` as it is rotated. Lines are
 * `<time> <stream> <line>`. Nobody ever waits for the disk: what does not fit the queue is left out and counted, and a
 * file that cannot be written is given up with one warning.
 */
import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { LogEntry } from "../wire/control.ts";

export interface LogFileLimits {
  /** A file is rotated when it is larger. */
  readonly fileBytes: number;
  /** Files kept, the current one included. */
  readonly files: number;
  /** Bytes that may wait to be written. */
  readonly queueBytes: number;
}

export const LOG_FILE_LIMITS: LogFileLimits = {
  fileBytes: 8 * 1024 * 1024,
  files: 3,
  queueBytes: 256 * 1024,
};

export interface LogFileOptions {
  readonly directory: string;
  readonly service: string;
  readonly log: Log;
  readonly limits?: LogFileLimits;
}

export class LogFile implements AsyncDisposable {
  readonly #path: string;
  readonly #limits: LogFileLimits;
  readonly #log: Log;
  #queue: string[] = [];
  #queuedBytes = 0;
  #skipped = 0;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #writing: Promise<void> | undefined;
  #givenUp = false;

  constructor({ directory, service, log, limits = LOG_FILE_LIMITS }: LogFileOptions) {
    this.#path = join(directory, `${service}.log`);
    this.#limits = limits;
    this.#log = log;
  }

  append(entry: LogEntry): void {
    if (this.#givenUp) return;
    const text = `${new Date(entry.time).toISOString()} ${entry.stream} ${entry.line}\n`;
    if (this.#queuedBytes + text.length > this.#limits.queueBytes) {
      this.#skipped += 1;
      return;
    }
    this.#queue.push(text);
    this.#queuedBytes += text.length;
    this.#writing ??= this.#drain();
  }

  /** Writes what is queued and closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    this.#givenUp = true;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #drain(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const batch = this.#takeBatch();
        if (this.#fileBytes > this.#limits.fileBytes) await this.#rotate();
        this.#file ??= await this.#openFile();
        await this.#file.appendFile(batch);
        this.#fileBytes += batch.length;
      }
    } catch (error) {
      this.#giveUp(error);
    } finally {
      this.#writing = undefined;
    }
  }

  #takeBatch(): Buffer {
    if (this.#skipped > 0) this.#queue.push(`${this.#skipped} lines left out\n`);
    const batch = Buffer.from(this.#queue.join(""), "utf8");
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#skipped = 0;
    return batch;
  }

  async #openFile(): Promise<FileHandle> {
    const file = await open(this.#path, "a", 0o640);
    this.#fileBytes = (await file.stat()).size;
    return file;
  }

  async #rotate(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
    for (let number = this.#limits.files - 1; number > 0; number -= 1) {
      const from = number === 1 ? this.#path : `${this.#path}.${number - 1}`;
      await renameIfThere(from, `${this.#path}.${number}`);
    }
    this.#fileBytes = 0;
  }

  #giveUp(error: unknown): void {
    this.#givenUp = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    const reason = isErrno(error) ? error.code : String(error);
    this.#log.warn("a log file is given up; lines stay in memory only", { path: this.#path, reason });
  }
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}
