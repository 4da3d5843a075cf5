/** Reads and writes control files of cgroups: a write is one text in one call, taken whole or refused with an errno. */
import { constants } from "node:fs";
import { type FileHandle, open, writeFile } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";

/** More than any file that has one value a key; a list of processes is read from its beginning. */
const MAX_CONTROL_BYTES = 65_536;
/** Of a read; most files have less. */
const PART_BYTES = 4_096;

/** @returns the first 64 KiB, or undefined if there is no such file. @throws E_CGROUP_FILE */
export async function readControl(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY);
    return await readStart(file);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw fileError(path, error);
  }
}

async function readStart(file: FileHandle): Promise<string> {
  const parts: Buffer[] = [];
  for (let used = 0; used < MAX_CONTROL_BYTES;) {
    const buffer = Buffer.allocUnsafe(PART_BYTES);
    const { bytesRead } = await file.read(buffer, 0, PART_BYTES, used);
    if (bytesRead === 0) break;
    parts.push(buffer.subarray(0, bytesRead));
    used += bytesRead;
  }
  return Buffer.concat(parts).toString("latin1");
}

/** @throws errno: what it means depends on the file. */
export async function writeControl(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: constants.O_WRONLY | constants.O_TRUNC });
}

/** A value out of a control file. @throws E_CGROUP_FORMAT if the parser gave none */
export function parsed<T>(value: T | undefined, path: string, text: string): T {
  if (value !== undefined) return value;
  throw new KitError("E_CGROUP_FORMAT", `${path} holds ${JSON.stringify(text.slice(0, 80))}`);
}

export function fileError(path: string, error: unknown): KitError {
  if (error instanceof KitError) return error;
  const reason = isErrno(error) ? (error.code ?? "") : String(error);
  return new KitError("E_CGROUP_FILE", `${path}: ${reason}`, { cause: error });
}

/** A short control file that is read again and again: it stays open, and a read is one system call. */
export class KeptControl implements AsyncDisposable {
  readonly path: string;
  #file: Promise<FileHandle | undefined> | undefined;
  #isClosed = false;

  constructor(path: string) {
    this.path = path;
  }

  /** @returns undefined if there is no such file, or it was closed. @throws E_CGROUP_FILE */
  async read(): Promise<string | undefined> {
    if (this.#isClosed) return undefined;
    this.#file ??= openIfThere(this.path);
    try {
      const buffer = Buffer.allocUnsafe(PART_BYTES);
      const result = await (await this.#file)?.read(buffer, 0, PART_BYTES, 0);
      return result === undefined ? undefined : buffer.toString("latin1", 0, result.bytesRead);
    } catch (error) {
      throw fileError(this.path, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
