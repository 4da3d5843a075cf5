/** Archives where the user wants them. */
import { randomBytes } from "node:crypto";
import { type FileHandle, open, realpath, rename, rm, stat } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import { readChunks } from "./image-intake.ts";
import { userFileStep } from "./store-refusals.ts";

/** The bytes of a file or pipe; each part must be done with before the next. @throws E_STORE_FILE */
export async function* readUserFile(path: string): AsyncGenerator<Uint8Array> {
  await using file = await userFileStep(path, async () => await open(path, "r"));
  yield* readChunks(file, path);
}

/**
 * Writes a file that is there whole or not at all; what is there already and is no file, such as a pipe, is written to.
 * @throws E_STORE_FILE, E_DISK_FULL, what `chunks` throws
 */
export async function writeUserFile(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const target = await userFileStep(path, async () => await findTarget(path));
  if (target === undefined) return await writeAll(path, "w", chunks);
  const temporary = `${target}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeAll(temporary, "wx", chunks);
    await userFileStep(path, async () => await rename(temporary, target));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** The file that is to be replaced or made; undefined for what is no file. */
async function findTarget(path: string): Promise<string | undefined> {
  try {
    const info = await stat(path);
    if (info.isDirectory()) throw new KitError("E_STORE_FILE", `${path} is a directory`);
    return info.isFile() ? await realpath(path) : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return path;
    throw error;
  }
}

async function writeAll(path: string, flags: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  await using file: FileHandle = await userFileStep(path, async () => await open(path, flags, 0o666));
  for await (const chunk of chunks) await userFileStep(path, async () => await file.writeFile(chunk));
  if ((await file.stat()).isFile()) await userFileStep(path, async () => await file.datasync());
}
