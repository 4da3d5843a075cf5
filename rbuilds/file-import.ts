/**
 * Files of the host in the blob store, read once: a file of the same path, size, times and inode has the same bytes.
 *
 *   <cacheDir>/imports-1/<SHA-256 of what names the file>    its digest in hex, 64 bytes
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../core/atomic-file.ts";
import { isErrno, KitError } from "../core/errors.ts";
import type { BlobStore, StoredBlob } from "./blob-store.ts";

const FOLDER = "imports-1";
/** Node's executable has 150 MB. */
const MAX_IMPORT_BYTES = 1024 ** 3;

export interface ImportOptions {
  readonly blobs: BlobStore;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
}

/** @throws E_IMAGE_RUNTIME if `path` is no regular file. */
export async function importFile(path: string, options: ImportOptions): Promise<StoredBlob> {
  const { size, key } = await fileIdentity(path);
  const record = join(options.cacheDir, FOLDER, key);
  const known = await readRecord(record);
  if (known !== undefined && (await options.blobs.has(known))) return { digest: known, size };
  const blob = await options.blobs.putFile(path, { signal: options.signal, maxBytes: MAX_IMPORT_BYTES });
  // A file that changed while it was read is not remembered under what it was before.
  if ((await fileIdentity(path)).key === key) {
    await mkdir(join(options.cacheDir, FOLDER), { recursive: true });
    await writeFileAtomic(record, blob.digest);
  }
  return blob;
}

async function fileIdentity(path: string): Promise<{ readonly size: number; readonly key: string }> {
  try {
    const info = await stat(path, { bigint: true });
    if (!info.isFile()) throw new KitError("E_IMAGE_RUNTIME", `${path} is no regular file`);
    const parts = [path, info.dev, info.ino, info.size, info.mtimeNs, info.ctimeNs];
    const key = createHash("sha256").update(parts.join("\0")).digest("hex");
    return { size: Number(info.size), key };
  } catch (error) {
    if (isErrno(error, "ENOENT"))
      throw new KitError("E_IMAGE_RUNTIME", `${path} does not exist`, { cause: error });
    throw error;
  }
}

async function readRecord(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, "utf8");
    return /^[0-9a-f]{64}$/.test(text) ? text : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
