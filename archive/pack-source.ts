/** Where a copy begins: which directory is opened, which name in it, and what the copy's top entry is called. */
import { constants } from "node:fs";
import { type FileHandle, open, realpath } from "node:fs/promises";
import { basename, dirname } from "node:path";

import { isErrno, KitError } from "../core/errors.ts";
import { quoteName } from "./archive-refusals.ts";

export interface PackSource {
  /** The directory that holds the thing to copy; the caller closes it. */
  readonly directory: FileHandle;
  readonly name: string;
  /** The top entry's. */
  readonly entryName: string;
}

/**
 * The last name of `path` is not followed if it is a link, unless a slash or `/.` says that a directory is meant. The
 * top entry has that name as it is written; `.`, `..` and names like them have that of what they stand for.
 * @throws E_ARCHIVE_NOT_FOUND, E_ARCHIVE_ENTRY for the root directory, E_ARCHIVE_ACCESS
 */
export async function openPackSource(path: string): Promise<PackSource> {
  if (path === "" || path.includes("\0"))
    throw new KitError("E_ARCHIVE_NOT_FOUND", `${quoteName(path)} is no path of a file`);
  const bare = path.replace(/\/(?:\.?\/)*\.?$/, "");
  const last = basename(bare);
  const isFollowed = bare !== path || ["", ".", ".."].includes(last);
  try {
    const place = isFollowed ? await realpath(path) : bare;
    const name = basename(place);
    if (name === "")
      throw new KitError("E_ARCHIVE_ENTRY", "the root directory has no name and is not copied as a whole");
    const directory = await open(dirname(place), constants.O_RDONLY | constants.O_DIRECTORY);
    const entryName = ["", ".", ".."].includes(last) ? name : last;
    return { directory, name, entryName };
  } catch (error) {
    throw sourceFailure(path, error);
  }
}

export function sourceFailure(path: string, error: unknown): unknown {
  if (error instanceof KitError || !isErrno(error)) return error;
  const isAbsent = error.code === "ENOENT" || error.code === "ENOTDIR";
  const code = isAbsent ? "E_ARCHIVE_NOT_FOUND" : "E_ARCHIVE_ACCESS";
  const why = isAbsent ? "does not exist" : `cannot be read: ${error.code}`;
  return new KitError(code, `${quoteName(path)} ${why}`, { cause: error });
}
