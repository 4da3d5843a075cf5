import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";

export interface AtomicWriteOptions {
  /** Permission bits of the new file; 0600 unless told. */
  readonly mode?: number;
}

/**
 * Replaces `path` in one step: readers see the old bytes or the new, never half. The bytes are on disk before the
 * name changes; on failure the old file stays and no temporary file is left.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: AtomicWriteOptions = {},
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeSynced(temporary, data, options.mode ?? 0o600);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writeSynced(path: string, data: string | Uint8Array, mode: number): Promise<void> {
  await using file = await open(path, "wx", mode);
  await file.writeFile(data);
  await file.datasync();
}
