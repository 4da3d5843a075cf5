/**
 * Directories by descriptor. Node has no openat(2) and its like, but /proc/self/fd/N/NAME is the same: the kernel goes
 * to the directory that is open as N, wherever it was moved to, and looks for one name there. No path of more than
 * one name is ever given to the kernel below the top of a copy, so no link on the way can be followed.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

/** O_PATH of Linux, which Node does not name: a descriptor of the thing itself, that neither reads nor follows. */
export const O_PATH = 0o10_000_000;

/** @param name one name, without a slash. */
export function childPath(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}

/** A path of the thing that is open, and of nothing else; links are not followed from it. */
export function handlePath(handle: FileHandle): string {
  return `/proc/self/fd/${handle.fd}`;
}

/** A directory in an open one; fails with ENOTDIR if `name` is a link or anything else. */
export async function openChildDirectory(directory: FileHandle, name: string): Promise<FileHandle> {
  return await open(
    childPath(directory, name),
    constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
  );
}
