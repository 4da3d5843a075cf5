/**
 * Output of an enclave on the host: NDJSON files in a folder, `0.ndjson` the newest, at most MAX_FILES of
 * MAX_FILE_BYTES each. Writes are in order; a producer that awaits `write` is slowed to the speed of the disk.
 */
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";

export const MAX_FILE_BYTES = 8 * 1024 * 1024;
export const MAX_FILES = 4;

export interface HostLogEntry {
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Service name; `console` for what init and the machine print. */
  readonly service: string;
  readonly stream: "stdout" | "stderr";
  readonly line: string;
}

export class LogWriter implements AsyncDisposable {
  readonly #directory: string;
  #file: FileHandle;
  #sizeBytes = 0;
  #last: Promise<void> = Promise.resolve();

  private constructor(directory: string, file: FileHandle) {
    this.#directory = directory;
    this.#file = file;
  }

  static async open(directory: string): Promise<LogWriter> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new LogWriter(directory, await open(join(directory, "0.ndjson"), "a", 0o600));
  }

  /** Resolves once the entries are with the kernel. */
  async write(entries: readonly HostLogEntry[]): Promise<void> {
    const text = entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
    if (text === "") return;
    const writing = this.#last.then(() => this.#append(text));
    this.#last = writing.catch(() => undefined); // the caller hears of it; later writes are tried anew
    await writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#file.close();
  }

  async #append(text: string): Promise<void> {
    if (this.#sizeBytes > MAX_FILE_BYTES) await this.#rotate();
    const { bytesWritten } = await this.#file.write(text);
    this.#sizeBytes += bytesWritten;
  }

  async #rotate(): Promise<void> {
    await this.#file.close();
    const name = (index: number): string => join(this.#directory, `${index}.ndjson`);
    await rm(name(MAX_FILES - 1), { force: true });
    for (let index = MAX_FILES - 2; index >= 0; index -= 1)
      await rename(name(index), name(index + 1)).catch(ignoreAbsent);
    this.#file = await open(name(0), "a", 0o600);
    this.#sizeBytes = 0;
  }
}

function ignoreAbsent(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}
