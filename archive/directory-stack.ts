/**
 * The directories from the destination down to the entry at hand, open. Those that a copy makes are made under a
 * temporary name and closed to others; they get owner, mode, time and name when the archive leaves them, so that
 * read-only ones can be filled and unfinished ones are never seen. Below such a one nothing needs another name.
 */
import { type FileHandle, mkdir } from "node:fs/promises";

import { isErrno, KitError } from "../core/errors.ts";
import type { TarMember } from "../wire/tar/tar-reader.ts";
import { quoteName, refuseEntry, writingStep } from "./archive-refusals.ts";
import { lookAtPlace } from "./destination.ts";
import { applyAttributes, type AttributePolicy } from "./entry-attributes.ts";
import { childPath, openChildDirectory } from "./open-directory.ts";
import { commitEntry, discardEntry, type StagedEntry, stageEntry, temporaryPath } from "./staged-entry.ts";

interface Level {
  /** In the archive. */
  readonly name: string;
  readonly handle: FileHandle;
  /** For those that this copy makes; others keep what they have. */
  readonly attributesOf: TarMember | undefined;
  readonly staged: StagedEntry | undefined;
}

export interface FoundDirectory extends AsyncDisposable {
  readonly directory: FileHandle;
}

export class DirectoryStack {
  readonly #bottom: FileHandle;
  readonly #policy: AttributePolicy;
  #levels: Level[] = [];

  /** @param bottom the destination; the caller closes it, after `finish` or `discard`. */
  constructor(bottom: FileHandle, policy: AttributePolicy) {
    this.#bottom = bottom;
    this.#policy = policy;
  }

  /** The directory with these names below the bottom, which must be there. @throws E_ARCHIVE_ENTRY */
  async enter(names: readonly string[], path: string): Promise<FileHandle> {
    await this.#leaveTo(commonLength(this.#levels, names));
    for (const name of names.slice(this.#levels.length)) {
      const handle = await openParent(this.#top, name, path);
      this.#levels.push({ name, handle, attributesOf: undefined, staged: undefined });
    }
    return this.#top;
  }

  /** The same without leaving where the archive is; the caller disposes of what it gets. @throws E_ARCHIVE_ENTRY */
  async find(names: readonly string[], path: string): Promise<FoundDirectory> {
    const known = commonLength(this.#levels, names);
    await using opened = new AsyncDisposableStack();
    let directory = this.#levels[known - 1]?.handle ?? this.#bottom;
    for (const name of names.slice(known)) directory = opened.use(await openParent(directory, name, path));
    const owned = opened.move();
    return { directory, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  /**
   * Makes a directory in the one entered last, or enters the one that is there.
   * @param name in the archive @param finalName on disk
   */
  async make(member: TarMember, name: string, finalName: string): Promise<void> {
    const place = await writingStep(member.name, "looked for", lookAtPlace(this.#top, finalName));
    if (place === "other")
      throw new KitError("E_ARCHIVE_DESTINATION", `${quoteName(member.name)}: a directory replaces no file`);
    if (place === "directory") {
      const handle = await writingStep(member.name, "opened", openChildDirectory(this.#top, finalName));
      this.#levels.push({ name, handle, attributesOf: undefined, staged: undefined });
    } else await this.#makeNew(member, name, finalName);
  }

  /** Gives every directory that is still open what it gets at last. */
  async finish(): Promise<void> {
    await this.#leaveTo(0);
  }

  /** Removes what has no name yet. */
  async discard(): Promise<void> {
    for (const { handle, staged } of this.#levels.splice(0).reverse()) {
      await handle.close();
      if (staged !== undefined) await discardEntry(staged);
    }
  }

  get #top(): FileHandle {
    return this.#levels.at(-1)?.handle ?? this.#bottom;
  }

  async #makeNew(member: TarMember, name: string, finalName: string): Promise<void> {
    const directory = this.#top;
    const isHidden = this.#levels.some((level) => level.staged !== undefined);
    const entry = { directory, name: finalName, path: member.name, isDirectory: true };
    const staged = isHidden ? undefined : stageEntry(entry);
    const path = staged === undefined ? childPath(directory, finalName) : temporaryPath(staged);
    await writingStep(member.name, "made", mkdir(path, 0o700));
    try {
      const handle = await openOwn(directory, staged?.temporary ?? finalName, member.name);
      this.#levels.push({ name, handle, attributesOf: member, staged });
    } catch (error) {
      if (staged !== undefined) await discardEntry(staged);
      throw error;
    }
  }

  async #leaveTo(length: number): Promise<void> {
    while (this.#levels.length > length) {
      const level = this.#levels.at(-1);
      if (level?.attributesOf !== undefined)
        await applyAttributes(level.handle, level.attributesOf, this.#policy);
      if (level?.staged !== undefined) await commitEntry(level.staged);
      this.#levels.pop();
      await level?.handle.close();
    }
  }
}

function commonLength(levels: readonly Level[], names: readonly string[]): number {
  const different = levels.findIndex((level, index) => level.name !== names[index]);
  return different < 0 ? Math.min(levels.length, names.length) : different;
}

async function openParent(directory: FileHandle, name: string, path: string): Promise<FileHandle> {
  try {
    return await openChildDirectory(directory, name);
  } catch (error) {
    if (isErrno(error, "ENOENT")) throw refuseEntry(path, "its directory did not come before it");
    if (isErrno(error, "ENOTDIR") || isErrno(error, "ELOOP"))
      throw refuseEntry(path, `${quoteName(name)} above it is a link or a file`);
    return await writingStep(path, "reached", Promise.reject(error));
  }
}

/** Opens the directory just made, and sees that it is that: others may write to the directory around it. */
async function openOwn(directory: FileHandle, name: string, path: string): Promise<FileHandle> {
  const handle = await writingStep(path, "opened", openChildDirectory(directory, name));
  const { uid, mode } = await handle.stat();
  if (uid === process.geteuid?.() && (mode & 0o077) === 0) return handle;
  await handle.close();
  throw new KitError("E_ARCHIVE_CHANGED", `${quoteName(path)} was replaced while it was made`);
}
