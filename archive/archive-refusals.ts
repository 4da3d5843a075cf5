/** Refusals of copies, and what the errors of the system mean for them. */
import { isErrno, KitError } from "../core/errors.ts";
import type { ErrorCode } from "../core/error-table.ts";

const SHOWN_CHARACTERS = 200;

/** Names come from the other side: quoted, and not all of a long one. */
export function quoteName(name: string): string {
  const shown = name.length > SHOWN_CHARACTERS ? `${name.slice(0, SHOWN_CHARACTERS)}…` : name;
  return JSON.stringify(shown);
}

export function refuseEntry(name: string, why: string): KitError {
  return new KitError("E_ARCHIVE_ENTRY", `${quoteName(name)}: ${why}`);
}

export function refuseFormat(why: string, cause?: unknown): KitError {
  return new KitError("E_ARCHIVE_FORMAT", `the archive: ${why}`, { cause });
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "E_DISK_FULL",
  EDQUOT: "E_DISK_FULL",
  EFBIG: "E_DISK_FULL",
  // Something of another kind has the name, or something that is no directory is on the way.
  EEXIST: "E_ARCHIVE_DESTINATION",
  EISDIR: "E_ARCHIVE_DESTINATION",
  ENOTDIR: "E_ARCHIVE_DESTINATION",
  ENOTEMPTY: "E_ARCHIVE_DESTINATION",
  ELOOP: "E_ARCHIVE_DESTINATION",
  ENAMETOOLONG: "E_ARCHIVE_ENTRY",
};

/** Runs one step of writing `name`; errors of the system become refusals that say which step it was. */
export async function writingStep<T>(name: string, step: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof KitError || !isErrno(error)) throw error;
    const code = CODES[error.code ?? ""] ?? "E_ARCHIVE_ACCESS";
    throw new KitError(code, `${quoteName(name)} cannot be ${step}: ${error.code}`, { cause: error });
  }
}

/** The same for reading what is to be copied: what vanishes was removed meanwhile. */
export async function readingStep<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof KitError || !isErrno(error)) throw error;
    const isGone = ["ENOENT", "ENOTDIR", "ELOOP", "ESTALE"].includes(error.code ?? "");
    if (isGone)
      throw new KitError("E_ARCHIVE_CHANGED", `${quoteName(name)} was removed or replaced meanwhile`, {
        cause: error,
      });
    const code = error.code === "ENAMETOOLONG" ? "E_ARCHIVE_ENTRY" : "E_ARCHIVE_ACCESS";
    throw new KitError(code, `${quoteName(name)} cannot be read: ${error.code}`, { cause: error });
  }
}
