/** What errors of the system mean for the store. */
import { isErrno, KitError } from "../../core/errors.ts";
import type { ErrorCode } from "../../core/error-table.ts";

const FULL = ["ENOSPC", "EDQUOT", "EFBIG"];
const REFUSED = ["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "EISDIR", "ELOOP", "ENAMETOOLONG", "EIO"];
const MAX_SHOWN = 200;

/** Runs work on files of the store. @throws E_DISK_FULL, E_STORE_ACCESS, or what `work` throws */
export async function storeStep<T>(place: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw storeRefusal(place, error);
  }
}

/** @returns `error` itself where it is none of the system's refusals. */
export function storeRefusal(place: string, error: unknown): unknown {
  if (!isErrno(error)) return error;
  const code = error.code ?? "";
  if (FULL.includes(code)) return new KitError("E_DISK_FULL", `${place}: no space is left`, { cause: error });
  if (REFUSED.includes(code))
    return new KitError("E_STORE_ACCESS", `${place} cannot be used: ${code}`, { cause: error });
  return error;
}

/** Runs work on a file that the user named. @throws E_DISK_FULL, E_STORE_FILE, or what `work` throws */
export async function userFileStep<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KitError || !isErrno(error)) throw error;
    const code: ErrorCode = FULL.includes(error.code ?? "") ? "E_DISK_FULL" : "E_STORE_FILE";
    throw new KitError(code, `${path}: ${error.code ?? error.message}`, { cause: error });
  }
}

export function damaged(path: string, why: string, cause?: unknown): KitError {
  return new KitError("E_STORE_DAMAGED", `${path} is damaged: ${why}`, { cause });
}

/** Text of others in a message: quoted, and not all of a long one. */
export function quote(text: string): string {
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
}
