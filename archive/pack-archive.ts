/**
 * Copies a file, or a directory with everything below it, into a stream as a tar archive (wire/tar/).
 *
 * Directories come before what is in them, names in the order of their bytes. Links are sent as they are and never
 * followed. What nobody can copy is refused before a byte of it is sent; a file that changes while it is read ends the
 * archive, as its size was said before its content.
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, open, readdir, readlink } from "node:fs/promises";
import type { BigIntStats } from "node:fs";
import type { Writable } from "node:stream";

import { KitError } from "../core/errors.ts";
import type { ArchiveSummary } from "../wire/archive-report.ts";
import { TAR_BLOCK_BYTES } from "../wire/tar/tar-header.ts";
import { encodeTarMember, tarPadding, type WrittenMember } from "../wire/tar/tar-header-encoder.ts";
import { type ArchiveLimits, DEFAULT_ARCHIVE_LIMITS } from "./archive-limits.ts";
import { ArchiveOutput } from "./archive-output.ts";
import { quoteName, readingStep, refuseEntry } from "./archive-refusals.ts";
import { LinkTable } from "./link-table.ts";
import { childPath, handlePath, openChildDirectory } from "./open-directory.ts";
import { openPackSource, type PackSource, sourceFailure } from "./pack-source.ts";

export interface PackOptions {
  /** Stays open and is the caller's to end: also after a refusal, when it holds an archive cut off. */
  readonly output: Writable;
  readonly signal: AbortSignal;
  readonly limits?: ArchiveLimits;
  /** Called often, with what was read so far. */
  readonly onProgress?: (soFar: ArchiveSummary) => void;
}

/** One thing to copy: where it lies and what it is called in the archive. */
interface Source {
  readonly directory: FileHandle;
  readonly name: string;
  readonly path: string;
  readonly depth: number;
}

/**
 * Everything is handed to the system when it resolves.
 * @throws E_ARCHIVE_NOT_FOUND, E_ARCHIVE_ENTRY, E_ARCHIVE_CHANGED, E_ARCHIVE_LIMIT, E_ARCHIVE_ACCESS, E_ARCHIVE_STREAM
 */
export async function packArchive(path: string, options: PackOptions): Promise<ArchiveSummary> {
  options.signal.throwIfAborted();
  const source = await openPackSource(path);
  await using _ = source.directory;
  using output = new ArchiveOutput(options.output, options.signal);
  const packer = new Packer(output, options);
  return await packer.pack(source, path);
}

class Packer {
  readonly #output: ArchiveOutput;
  readonly #options: PackOptions;
  readonly #limits: ArchiveLimits;
  readonly #links = new LinkTable();
  #entries = 0;
  #bytes = 0;

  constructor(output: ArchiveOutput, options: PackOptions) {
    this.#output = output;
    this.#options = options;
    this.#limits = options.limits ?? DEFAULT_ARCHIVE_LIMITS;
  }

  async pack({ directory, name, entryName }: PackSource, path: string): Promise<ArchiveSummary> {
    const info = await lstat(childPath(directory, name), { bigint: true }).catch((error: unknown) => {
      throw sourceFailure(path, error);
    });
    await this.#packEntry({ directory, name, path: entryName, depth: 1 }, info);
    await this.#output.appendZeros(2 * TAR_BLOCK_BYTES);
    await this.#output.flush();
    return this.#summary();
  }

  async #packEntry(source: Source, info: BigIntStats): Promise<void> {
    this.#options.signal.throwIfAborted();
    this.#checkLimits(source, info);
    if (info.isDirectory()) return await this.#packDirectory(source, info);
    const earlier = this.#links.find(info);
    if (earlier !== undefined) await this.#writeHeader(source, info, { type: "hardlink", linkName: earlier });
    else if (info.isFile()) await this.#packFile(source, info);
    else if (info.isSymbolicLink()) await this.#packLink(source, info);
    else throw refuseEntry(source.path, `${kindOf(info)} is not copied`);
    this.#links.remember(info, source.path);
  }

  async #packDirectory(source: Source, before: BigIntStats): Promise<void> {
    await using handle = await readingStep(source.path, openChildDirectory(source.directory, source.name));
    const info = await handle.stat({ bigint: true });
    if (info.ino !== before.ino || info.dev !== before.dev) throw changed(source.path, "was replaced");
    await this.#writeHeader(source, info, { type: "directory" });
    // One byte a character: the strings are small, and their order is that of the bytes.
    const names = await readingStep(source.path, readdir(handlePath(handle), { encoding: "latin1" }));
    if (this.#entries + names.length > this.#limits.maxEntries) throw this.#tooManyEntries();
    for (const raw of names.sort()) {
      const name = decodeName(raw, source.path);
      const child = { directory: handle, name, path: `${source.path}/${name}`, depth: source.depth + 1 };
      const childInfo = await readingStep(child.path, lstat(childPath(handle, name), { bigint: true }));
      await this.#packEntry(child, childInfo);
    }
  }

  async #packLink(source: Source, info: BigIntStats): Promise<void> {
    const raw = await readingStep(
      source.path,
      readlink(childPath(source.directory, source.name), { encoding: "latin1" }),
    );
    await this.#writeHeader(source, info, { type: "symlink", linkName: decodeName(raw, source.path) });
  }

  async #packFile(source: Source, before: BigIntStats): Promise<void> {
    await using handle = await readingStep(source.path, openFile(source));
    const info = await handle.stat({ bigint: true });
    if (info.ino !== before.ino || info.dev !== before.dev) throw changed(source.path, "was replaced");
    const size = Number(info.size);
    await this.#writeHeader(source, info, { type: "file", size });
    await this.#sendContent(source, handle, size);
    await this.#output.appendZeros(tarPadding(size));
    const after = await handle.stat({ bigint: true });
    if (after.size !== info.size || after.mtimeNs !== info.mtimeNs || (await isLonger(handle, size)))
      throw changed(source.path, "was written to while it was copied");
  }

  async #sendContent(source: Source, handle: FileHandle, size: number): Promise<void> {
    for (let position = 0; position < size;) {
      const room = await this.#output.room();
      const length = Math.min(room.length, size - position);
      const { bytesRead } = await readingStep(source.path, handle.read(room, 0, length, position));
      if (bytesRead === 0) throw changed(source.path, "became shorter while it was copied");
      this.#output.filled(bytesRead);
      position += bytesRead;
      this.#bytes += bytesRead;
      this.#options.onProgress?.(this.#summary());
    }
  }

  async #writeHeader(
    { path }: Source,
    info: BigIntStats,
    fields: Pick<WrittenMember, "type"> & Partial<Pick<WrittenMember, "size" | "linkName">>,
  ): Promise<void> {
    const header = encodeTarMember({
      name: path,
      mode: Number(info.mode & 0o7777n),
      uid: Number(info.uid),
      gid: Number(info.gid),
      mtimeNs: info.mtimeNs,
      size: 0,
      linkName: "",
      ...fields,
    });
    await this.#output.append(header);
    this.#entries += 1;
    this.#options.onProgress?.(this.#summary());
  }

  #checkLimits({ path, depth }: Source, info: BigIntStats): void {
    const { maxEntries, maxPathBytes, maxDepth, maxTotalBytes = Infinity } = this.#limits;
    if (this.#entries >= maxEntries) throw this.#tooManyEntries();
    if (Buffer.byteLength(path) > maxPathBytes)
      throw new KitError(
        "E_ARCHIVE_LIMIT",
        `${quoteName(path)}: the path has more than ${maxPathBytes} bytes`,
      );
    if (depth > maxDepth)
      throw new KitError("E_ARCHIVE_LIMIT", `${quoteName(path)}: below more than ${maxDepth} directories`);
    if (info.isFile() && this.#bytes + Number(info.size) > maxTotalBytes)
      throw new KitError("E_ARCHIVE_LIMIT", `${quoteName(path)}: more than ${maxTotalBytes} bytes to copy`);
  }

  #tooManyEntries(): KitError {
    return new KitError("E_ARCHIVE_LIMIT", `more than ${this.#limits.maxEntries} files to copy`);
  }

  #summary(): ArchiveSummary {
    return { entries: this.#entries, bytes: this.#bytes };
  }
}

/** Not blocking, in case a pipe took the file's place since it was looked at. */
async function openFile({ directory, name }: Source): Promise<FileHandle> {
  return await open(
    childPath(directory, name),
    constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY,
  );
}

/** Files of /proc say that they have no bytes, and have some. */
async function isLonger(handle: FileHandle, size: number): Promise<boolean> {
  const { bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, size);
  return bytesRead > 0;
}

function changed(path: string, how: string): KitError {
  return new KitError("E_ARCHIVE_CHANGED", `${quoteName(path)} ${how}`);
}

/** @param raw one byte a character. */
function decodeName(raw: string, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(raw, "latin1"));
  } catch (error) {
    throw new KitError("E_ARCHIVE_ENTRY", `${quoteName(`${path}/${raw}`)} is not UTF-8`, { cause: error });
  }
}

function kindOf(info: BigIntStats): string {
  if (info.isFIFO()) return "a named pipe";
  if (info.isSocket()) return "a socket";
  return "a device";
}
