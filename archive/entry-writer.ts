/** Makes the files and links of a copy. Each is whole before it gets its name. */
import { constants } from "node:fs";
import { type FileHandle, link, lstat, open, symlink } from "node:fs/promises";

import { isErrno, KitError } from "../core/errors.ts";
import type { TarMember } from "../wire/tar/tar-reader.ts";
import { MAX_TARGET_BYTES } from "./archive-limits.ts";
import { quoteName, refuseEntry, writingStep } from "./archive-refusals.ts";
import { applyAttributes, type AttributePolicy } from "./entry-attributes.ts";
import { writeContent } from "./entry-content.ts";
import { childPath, O_PATH } from "./open-directory.ts";
import { type StagedEntry, temporaryPath } from "./staged-entry.ts";

const NEW_FILE = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;

/** A file of this copy that a hard link names. */
export interface LinkSource {
  readonly directory: FileHandle;
  readonly name: string;
}

export class EntryWriter {
  readonly #policy: AttributePolicy;
  readonly #onBytes: (length: number) => void;
  /** Files that this copy made, by device and inode; as many as there may be entries. */
  readonly #made = new Set<string>();

  constructor(policy: AttributePolicy, onBytes: (length: number) => void) {
    this.#policy = policy;
    this.#onBytes = onBytes;
  }

  async makeFile(staged: StagedEntry, member: TarMember): Promise<void> {
    const opening = open(temporaryPath(staged), NEW_FILE, 0o600);
    await using handle = await writingStep(member.name, "made", opening);
    await writeContent(handle, member, this.#onBytes);
    await applyAttributes(handle, member, this.#policy);
    this.#made.add(keyOf(await handle.stat({ bigint: true })));
  }

  /** @throws E_ARCHIVE_ENTRY for a target that the kernel would not take. */
  async makeSymlink(staged: StagedEntry, member: TarMember): Promise<void> {
    const { name, linkName } = member;
    if (linkName === "" || linkName.includes("\0") || Buffer.byteLength(linkName) > MAX_TARGET_BYTES)
      throw refuseEntry(name, "it is a link to what cannot be a path");
    const path = temporaryPath(staged);
    await writingStep(name, "made", symlink(linkName, path));
    // Whoever may write to the directory may have replaced it: the handle is of a link in any case, or refused.
    await using handle = await writingStep(name, "opened", open(path, O_PATH | constants.O_NOFOLLOW));
    if (!(await handle.stat()).isSymbolicLink()) throw replaced(name);
    await applyAttributes(handle, member, this.#policy);
  }

  /** Attributes are those of the file. @throws E_ARCHIVE_ENTRY unless `source` is a file that this copy made. */
  async makeHardLink(staged: StagedEntry, member: TarMember, source: LinkSource): Promise<void> {
    const from = childPath(source.directory, source.name);
    await this.#checkOwn(from, member);
    const path = temporaryPath(staged);
    await writingStep(member.name, "linked", link(from, path));
    // Again: another file may have been put there in between.
    await this.#checkOwn(path, member);
  }

  async #checkOwn(path: string, { name, linkName }: TarMember): Promise<void> {
    const info = await lstat(path, { bigint: true }).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
      return undefined;
    });
    if (info === undefined || !info.isFile() || !this.#made.has(keyOf(info)))
      throw refuseEntry(
        name,
        `it links to ${quoteName(linkName)}, which is no file of the archive before it`,
      );
  }
}

function replaced(name: string): KitError {
  return new KitError("E_ARCHIVE_CHANGED", `${quoteName(name)} was replaced while it was made`);
}

function keyOf({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev}:${ino}`;
}
