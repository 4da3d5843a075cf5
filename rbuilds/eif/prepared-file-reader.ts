import { constants, type FileHandle, open } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import type { PreparedFile } from "../prepared-file.ts";

export interface PreparedFileReader extends AsyncDisposable {
  /** Reads as many bytes as the target has. @throws E_EIF_SOURCE_CHANGED if they are not there */
  fill(target: Uint8Array, position: number): Promise<void>;
}

/** @throws E_EIF_SOURCE_CHANGED if the file is gone, is none, or has another size */
export async function openPreparedFile({ path, sizeBytes }: PreparedFile): Promise<PreparedFileReader> {
  const file = await openAny(path);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw changed(path, "is no regular file");
    if (found.size !== sizeBytes) throw changed(path, `has ${found.size} bytes instead of ${sizeBytes}`);
  } catch (error) {
    await file.close();
    throw error;
  }
  return {
    fill: async (target, position) => await fill(file, path, { target, position }),
    [Symbol.asyncDispose]: async () => await file.close(),
  };
}

export function changed(path: string, why: string, cause?: unknown): KitError {
  return new KitError("E_EIF_SOURCE_CHANGED", `${path} ${why}`, { cause });
}

async function openAny(path: string): Promise<FileHandle> {
  try {
    // A pipe in place of the file must not keep us waiting for its writer.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw isErrno(cause) ? changed(path, `cannot be read: ${cause.code}`, cause) : cause;
  }
}

async function fill(
  file: FileHandle,
  path: string,
  { target, position }: { readonly target: Uint8Array; readonly position: number },
): Promise<void> {
  for (let done = 0; done < target.length;) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) throw changed(path, "became shorter while it was read");
    done += bytesRead;
  }
}
