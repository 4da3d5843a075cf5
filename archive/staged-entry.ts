/**
 * Things that are made under a temporary name and get their own in one step, so that nobody sees half of one and a
 * copy that ends early leaves none.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, type FileHandle, open, readdir, rename, rmdir, unlink } from "node:fs/promises";

import { isErrno, toKitError } from "../core/errors.ts";
import { KitError } from "../core/errors.ts";
import { writingStep } from "./archive-refusals.ts";
import { childPath, handlePath, O_PATH } from "./open-directory.ts";

export interface StagedEntry {
  readonly directory: FileHandle;
  readonly temporary: string;
  /** The name it gets. */
  readonly name: string;
  /** In the archive, for messages. */
  readonly path: string;
  readonly isDirectory: boolean;
}

/** A name that is hidden and cannot be guessed, for an entry that is about to be made. */
export function stageEntry(entry: Omit<StagedEntry, "temporary">): StagedEntry {
  return { ...entry, temporary: `.copy-${randomBytes(9).toString("hex")}.tmp` };
}

export function temporaryPath({ directory, temporary }: StagedEntry): string {
  return childPath(directory, temporary);
}

/** What has the name already is replaced, unless one of the two is a directory. @throws E_ARCHIVE_DESTINATION */
export async function commitEntry(entry: StagedEntry): Promise<void> {
  const from = temporaryPath(entry);
  await writingStep(entry.path, "put in its place", rename(from, childPath(entry.directory, entry.name)));
}

/** Removes it and everything in it, if it is there. */
export async function discardEntry(entry: StagedEntry): Promise<void> {
  try {
    if (entry.isDirectory) await removeDirectory(entry.directory, entry.temporary);
    else await unlink(temporaryPath(entry));
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

/** Runs `work`; if it fails `cleanUp` too, and the failure says so if something could not be removed. */
export async function orCleanUp<T>(work: () => Promise<T>, cleanUp: () => Promise<void>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    try {
      await cleanUp();
    } catch (second) {
      const { code, message, hint } = toKitError(error);
      const left = `${message}; and what was begun could not be removed: ${toKitError(second).message}`;
      throw new KitError(code, left, { hint, cause: new AggregateError([error, second]) });
    }
    throw error;
  }
}

/** By descriptors, as everything else: what is put into the tree meanwhile leads nowhere. */
async function removeDirectory(parent: FileHandle, name: string): Promise<void> {
  {
    const flags = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    await using directory = await open(childPath(parent, name), flags);
    // It may have got a mode of the archive that forbids its owner to empty it.
    await chmod(handlePath(directory), 0o700);
    for (const entry of await readdir(handlePath(directory), { withFileTypes: true })) {
      if (entry.isDirectory()) await removeDirectory(directory, entry.name);
      else await unlink(childPath(directory, entry.name));
    }
  }
  await rmdir(childPath(parent, name));
}
