/** Where a copy goes, by the rules of `cp -r`. */
import { constants } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { basename, dirname } from "node:path";

import { isErrno, KitError } from "../core/errors.ts";
import { quoteName } from "./archive-refusals.ts";
import { childPath } from "./open-directory.ts";

export interface Destination {
  /** The directory that the top entry is made in; the caller closes it. */
  readonly directory: FileHandle;
  /** The top entry's name there; undefined: its own. */
  readonly name: string | undefined;
}

/**
 * An existing directory, also through a link, or a path with a slash at its end takes the top entry under its own
 * name; any other path is the name that the top entry gets.
 * @throws E_ARCHIVE_DESTINATION, E_ARCHIVE_ACCESS
 */
export async function openDestination(path: string): Promise<Destination> {
  if (path === "" || path.includes("\0"))
    throw new KitError("E_ARCHIVE_DESTINATION", `${quoteName(path)} is no path of a file`);
  const directory = await openIfDirectory(path);
  if (directory !== undefined) return { directory, name: undefined };
  const name = basename(path);
  const mustExist = path.endsWith("/") || name === "." || name === "..";
  const parent = mustExist ? undefined : await openIfDirectory(dirname(path));
  if (parent !== undefined) return { directory: parent, name };
  const missing = mustExist ? path : dirname(path);
  throw new KitError("E_ARCHIVE_DESTINATION", `there is no directory ${quoteName(missing)} to copy into`);
}

async function openIfDirectory(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR") || isErrno(error, "ELOOP")) return undefined;
    const code = isErrno(error, "ENAMETOOLONG") ? "E_ARCHIVE_DESTINATION" : "E_ARCHIVE_ACCESS";
    const reason = isErrno(error) ? error.code : String(error);
    throw new KitError(code, `${quoteName(path)} cannot be opened: ${reason}`, { cause: error });
  }
}

export type PlaceState = "free" | "directory" | "other";

/** What has a name already. */
export async function lookAtPlace(directory: FileHandle, name: string): Promise<PlaceState> {
  try {
    const info = await lstat(childPath(directory, name));
    return info.isDirectory() ? "directory" : "other";
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "free";
    throw error;
  }
}
