/**
 * Makes files and directories from a tar archive of an untrusted sender, by the rules of `cp -r`.
 *
 * An archive has one entry at its top; everything else is below it. Nothing of it leads outside: names with `..`,
 * absolute names, links on the way to an entry (of the archive or on disk already), hard links to what the archive did
 * not bring, devices, pipes and sockets are refused. What is replaced is replaced in one step. New directories get their
 * names when they are whole; directories that exist keep their owner and mode and what else is in them. After a refusal
 * nothing half-made is left, but what was put into existing directories before stays.
 */
import { unlink } from "node:fs/promises";
import type { Readable } from "node:stream";

import { isErrno, KitError } from "../core/errors.ts";
import type { ArchiveSummary } from "../wire/archive-report.ts";
import { readTar, type TarMember } from "../wire/tar/tar-reader.ts";
import { ArchiveInput } from "./archive-input.ts";
import { type ArchiveLimits, DEFAULT_ARCHIVE_LIMITS } from "./archive-limits.ts";
import { quoteName, refuseEntry, refuseFormat, writingStep } from "./archive-refusals.ts";
import { type Destination, lookAtPlace, openDestination } from "./destination.ts";
import { DirectoryStack } from "./directory-stack.ts";
import type { AttributePolicy } from "./entry-attributes.ts";
import { splitEntryName } from "./entry-name.ts";
import { EntryWriter, type LinkSource } from "./entry-writer.ts";
import {
  commitEntry,
  discardEntry,
  orCleanUp,
  type StagedEntry,
  stageEntry,
  temporaryPath,
} from "./staged-entry.ts";

export interface UnpackOptions extends AttributePolicy {
  /** Read to its end; it stays the caller's to close, also after a refusal, when not all of it was read. */
  readonly input: Readable;
  readonly signal: AbortSignal;
  readonly limits?: ArchiveLimits;
  /** Called often, with what has arrived so far. */
  readonly onProgress?: (soFar: ArchiveSummary) => void;
}

/**
 * @param destination an existing directory takes the archive's top entry under its own name; another path becomes the
 *   name of the top entry, and its directory must exist.
 * @throws E_ARCHIVE_FORMAT, E_ARCHIVE_ENTRY, E_ARCHIVE_LIMIT, E_ARCHIVE_DESTINATION, E_ARCHIVE_OWNER, E_ARCHIVE_ACCESS,
 *   E_ARCHIVE_STREAM, E_ARCHIVE_CHANGED if somebody interferes, E_DISK_FULL
 */
export async function unpackArchive(destination: string, options: UnpackOptions): Promise<ArchiveSummary> {
  options.signal.throwIfAborted();
  const place = await openDestination(destination);
  await using _ = place.directory;
  using input = new ArchiveInput(options.input, options.signal);
  const unpacker = new Unpacker(place, options);
  return await orCleanUp(
    () => unpacker.unpack(input),
    () => unpacker.discard(),
  );
}

/** Extension headers come before entries: two kinds of names and one of records, and some for all entries. */
const HEADERS_PER_ENTRY = 4;

class Unpacker {
  readonly #destination: Destination;
  readonly #signal: AbortSignal;
  readonly #limits: ArchiveLimits;
  readonly #onProgress: ((soFar: ArchiveSummary) => void) | undefined;
  readonly #stack: DirectoryStack;
  readonly #writer: EntryWriter;
  #topName: string | undefined;
  /** A file or link at the top; it gets its name when the archive has ended as it should. */
  #stagedTop: StagedEntry | undefined;
  #entries = 0;
  #bytes = 0;

  constructor(destination: Destination, options: UnpackOptions) {
    this.#destination = destination;
    this.#signal = options.signal;
    this.#limits = options.limits ?? DEFAULT_ARCHIVE_LIMITS;
    this.#onProgress = options.onProgress;
    this.#stack = new DirectoryStack(destination.directory, options);
    this.#writer = new EntryWriter(options, (length) => {
      this.#bytes += length;
      this.#report();
    });
  }

  async unpack(input: AsyncIterable<Uint8Array>): Promise<ArchiveSummary> {
    const maxHeaders = this.#limits.maxEntries * HEADERS_PER_ENTRY;
    for await (const member of readTar(input, { refuse: refuseFormat, isWhole: true, maxHeaders })) {
      this.#signal.throwIfAborted();
      await this.#place(member);
      this.#entries += 1;
      this.#report();
    }
    if (this.#topName === undefined) throw refuseFormat("it is empty");
    await this.#stack.finish();
    if (this.#stagedTop !== undefined) await commitEntry(this.#stagedTop);
    return { entries: this.#entries, bytes: this.#bytes };
  }

  async discard(): Promise<void> {
    await this.#stack.discard();
    if (this.#stagedTop !== undefined) await discardEntry(this.#stagedTop);
  }

  async #place(member: TarMember): Promise<void> {
    this.#checkLimits(member);
    const names = splitEntryName(member.name, this.#limits);
    const name = names.at(-1) ?? "";
    if (this.#topName === undefined) return await this.#placeTop(member, names);
    const isBelowTop = names.length > 1 && names[0] === this.#topName;
    // A file or link at the top has nothing below it, though a directory of that name may be on disk.
    if (!isBelowTop || this.#stagedTop !== undefined)
      throw refuseEntry(member.name, `the archive has ${quoteName(this.#topName)} at its top already`);
    const directory = await this.#stack.enter(names.slice(0, -1), member.name);
    if (member.type === "directory") return await this.#stack.make(member, name, name);
    const staged = stageEntry({ directory, name, path: member.name, isDirectory: false });
    await orCleanUp(
      async () => {
        await this.#makeEntry(staged, member);
        await commitEntry(staged);
      },
      () => discardEntry(staged),
    );
    // To rename one name of a file onto another of the same does nothing: then the first is still there.
    if (member.type === "hardlink") await removeIfThere(temporaryPath(staged));
  }

  async #placeTop(member: TarMember, names: readonly string[]): Promise<void> {
    const [topName = ""] = names;
    if (names.length > 1) throw refuseEntry(member.name, "its directory did not come before it");
    const { directory, name = topName } = this.#destination;
    this.#topName = topName;
    if (member.type === "directory") return await this.#stack.make(member, topName, name);
    if ((await writingStep(member.name, "looked for", lookAtPlace(directory, name))) === "directory")
      throw new KitError("E_ARCHIVE_DESTINATION", `${quoteName(member.name)}: a file replaces no directory`);
    this.#stagedTop = stageEntry({ directory, name, path: member.name, isDirectory: false });
    await this.#makeEntry(this.#stagedTop, member);
  }

  async #makeEntry(staged: StagedEntry, member: TarMember): Promise<void> {
    switch (member.type) {
      case "file":
        return await this.#writer.makeFile(staged, member);
      case "symlink":
        return await this.#writer.makeSymlink(staged, member);
      case "hardlink":
        return await this.#makeHardLink(staged, member);
      case "directory":
      case "character":
      case "block":
      case "fifo":
        throw refuseEntry(member.name, "devices and named pipes are not copied");
    }
  }

  /** The linked file lies below the top, as everything; its directories are opened one by one. */
  async #makeHardLink(staged: StagedEntry, member: TarMember): Promise<void> {
    const names = splitEntryName(member.linkName, this.#limits);
    const isBelowTop = names.length > 1 && names[0] === this.#topName;
    if (!isBelowTop || this.#stagedTop !== undefined)
      throw refuseEntry(
        member.name,
        `it links to ${quoteName(member.linkName)}, which is no file of the archive`,
      );
    await using found = await this.#stack.find(names.slice(0, -1), member.name);
    const source: LinkSource = { directory: found.directory, name: names.at(-1) ?? "" };
    await this.#writer.makeHardLink(staged, member, source);
  }

  #checkLimits({ name, type, size }: TarMember): void {
    const { maxEntries, maxTotalBytes = Infinity } = this.#limits;
    if (this.#entries >= maxEntries)
      throw new KitError(
        "E_ARCHIVE_LIMIT",
        `${quoteName(name)}: the archive has more than ${maxEntries} entries`,
      );
    if (type === "file" && this.#bytes + size > maxTotalBytes)
      throw new KitError(
        "E_ARCHIVE_LIMIT",
        `${quoteName(name)}: the files have more than ${maxTotalBytes} bytes`,
      );
  }

  #report(): void {
    this.#onProgress?.({ entries: this.#entries, bytes: this.#bytes });
  }
}

async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (!isErrno(error, "ENOENT")) throw error;
  });
}
