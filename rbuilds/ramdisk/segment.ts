/**
 * A part of a ramdisk: one newc archive, made from entries of a manifest. Everything that its bytes depend on is in its
 * records: order, inode numbers (from 1), times (0), devices (0), and which name of a file has the content (the last).
 */
import { KitError } from "../../core/errors.ts";
import type { ManifestEntry } from "../../wire/manifest.ts";
import {
  encodeNewcHead,
  encodeNewcTrailer,
  MAX_NEWC_NAME_BYTES,
  MAX_NEWC_NUMBER,
  newcHeadBytes,
  newcPadding,
} from "../../wire/newc/newc-header.ts";

export type FileEntry = Extract<ManifestEntry, { readonly type: "file" }>;

export interface Segment {
  /** Stands before every path, without a slash at its end; "" for the root of the ramdisk. */
  readonly prefix: string;
  /** As in a manifest: sorted by the bytes of their paths; hard links are whole. */
  readonly entries: readonly ManifestEntry[];
  /** The files that hard links of `entries` name, by path; a file that is linked need not be an entry itself. */
  readonly linkedFiles: ReadonlyMap<string, FileEntry>;
}

export interface SegmentRecord {
  /** Header and name. */
  readonly head: Buffer;
  /** The content from the blob store, the target of a symbolic link, or nothing. */
  readonly body: FileEntry | Buffer | undefined;
  readonly bodyBytes: number;
}

export const TRAILER_RECORD: SegmentRecord = { head: encodeNewcTrailer(), body: undefined, bodyBytes: 0 };

/** Linux's PATH_MAX counts a NUL at the end. */
const MAX_TARGET_BYTES = 4095;

/** Every entry of the segment, in order, without the trailer. @throws as checkSegment. */
export function* segmentRecords(segment: Segment): Generator<SegmentRecord> {
  const inodes = new InodeNumbers(segment);
  for (const entry of segment.entries) yield recordOf(entry, nameOf(segment.prefix, entry.path), inodes);
}

/** Length of the segment as an archive, with its trailer. */
export function segmentBytes(segment: Segment): number {
  let total = newcHeadBytes(TRAILER_NAME_BYTES);
  for (const { head, bodyBytes } of segmentRecords(segment))
    total += head.length + bodyBytes + newcPadding(bodyBytes);
  return total;
}

const TRAILER_NAME_BYTES = 10;

/**
 * Finds out before anything is read whether newc can say all of this.
 * @throws E_RAMDISK_FILE_TOO_LARGE, E_RAMDISK_XATTR, E_RAMDISK_PATH, and E_IMAGE_MANIFEST for a hard link to no file.
 */
export function checkSegment(segment: Segment): void {
  for (const entry of segment.entries) {
    checkName(segment.prefix, entry.path);
    checkXattrs(entry);
    if (entry.type === "symlink") checkTarget(entry);
    if (entry.type === "file") checkSize(entry, entry.path);
    if (entry.type === "hardlink") checkSize(linkedFile(segment, entry), entry.path);
  }
}

function nameOf(prefix: string, path: string): Buffer {
  if (prefix === "") return Buffer.from(path.slice(1));
  return Buffer.from(path === "/" ? prefix : `${prefix}${path}`);
}

function recordOf(entry: ManifestEntry, name: Buffer, inodes: InodeNumbers): SegmentRecord {
  const file = inodes.fileOf(entry);
  const { inode, nlink, isLast } = inodes.take(entry);
  const body = file === undefined ? targetOf(entry) : contentOf(file, isLast);
  const bodyBytes = body === undefined ? 0 : Buffer.isBuffer(body) ? body.length : body.size;
  const { mode, uid, gid } = file ?? entry;
  const isDevice = entry.type === "character" || entry.type === "block";
  const head = encodeNewcHead(name, {
    type: entry.type === "hardlink" ? "file" : entry.type,
    // A link has no mode of its own; this is what stat() says of it.
    mode: entry.type === "symlink" ? 0o777 : mode,
    uid,
    gid,
    inode,
    nlink,
    mtime: 0,
    sizeBytes: bodyBytes,
    rdevMajor: isDevice ? entry.major : 0,
    rdevMinor: isDevice ? entry.minor : 0,
  });
  return { head, body, bodyBytes };
}

function targetOf(entry: ManifestEntry): Buffer | undefined {
  return entry.type === "symlink" ? Buffer.from(entry.target) : undefined;
}

function contentOf(file: FileEntry, isLast: boolean): FileEntry | undefined {
  return isLast && file.size > 0 ? file : undefined;
}

interface Inode {
  readonly number: number;
  readonly nlink: number;
  namesLeft: number;
}

/** Numbers inodes in the order of their first names. */
class InodeNumbers {
  readonly #segment: Segment;
  /** Names in this segment of files that have more than one, by the path of the file. */
  readonly #nameCounts = new Map<string, number>();
  readonly #shared = new Map<string, Inode>();
  #last = 0;

  constructor(segment: Segment) {
    this.#segment = segment;
    for (const entry of segment.entries) {
      if (entry.type !== "hardlink" && !segment.linkedFiles.has(entry.path)) continue;
      const path = filePathOf(entry);
      this.#nameCounts.set(path, (this.#nameCounts.get(path) ?? 0) + 1);
    }
  }

  /** The file that a file or hard link names. */
  fileOf(entry: ManifestEntry): FileEntry | undefined {
    if (entry.type === "file") return entry;
    return entry.type === "hardlink" ? linkedFile(this.#segment, entry) : undefined;
  }

  take(entry: ManifestEntry): { readonly inode: number; readonly nlink: number; readonly isLast: boolean } {
    const path = filePathOf(entry);
    const nlink = this.#nameCounts.get(path) ?? (entry.type === "directory" ? 2 : 1);
    const known = this.#shared.get(path);
    const inode = known ?? { number: (this.#last += 1), nlink, namesLeft: nlink };
    if (known === undefined && this.#nameCounts.has(path)) this.#shared.set(path, inode);
    inode.namesLeft -= 1;
    return { inode: inode.number, nlink, isLast: inode.namesLeft === 0 || entry.type === "directory" };
  }
}

function filePathOf(entry: ManifestEntry): string {
  return entry.type === "hardlink" ? entry.target : entry.path;
}

function linkedFile(segment: Segment, entry: Extract<ManifestEntry, { type: "hardlink" }>): FileEntry {
  const file = segment.linkedFiles.get(entry.target);
  if (file !== undefined) return file;
  throw new KitError("E_IMAGE_MANIFEST", `${shown(entry.path)} is a hard link to no file`);
}

function checkName(prefix: string, path: string): void {
  const sizeBytes = nameOf(prefix, path).length;
  if (path.isWellFormed() && sizeBytes < MAX_NEWC_NAME_BYTES) return;
  const why = path.isWellFormed()
    ? `has ${sizeBytes} bytes with the ramdisk's prefix; at most ${MAX_NEWC_NAME_BYTES - 1} are possible`
    : "is not Unicode";
  throw new KitError("E_RAMDISK_PATH", `${shown(path)} ${why}`, { details: { path } });
}

function checkTarget({ path, target }: Extract<ManifestEntry, { type: "symlink" }>): void {
  if (target.isWellFormed() && Buffer.byteLength(target) <= MAX_TARGET_BYTES) return;
  const message = `what the link ${shown(path)} says is not Unicode or has more than ${MAX_TARGET_BYTES} bytes`;
  throw new KitError("E_RAMDISK_PATH", message, { details: { path } });
}

function checkXattrs({ path, xattrs }: ManifestEntry): void {
  const [attribute] = Object.keys(xattrs ?? {});
  if (attribute === undefined) return;
  const message = `${shown(path)} has the extended attribute ${attribute}; ramdisks cannot carry any`;
  throw new KitError("E_RAMDISK_XATTR", message, { details: { path, attribute } });
}

function checkSize({ size }: FileEntry, path: string): void {
  if (size <= MAX_NEWC_NUMBER) return;
  const message = `${shown(path)} has ${size} bytes; a file of a ramdisk has at most ${MAX_NEWC_NUMBER}`;
  throw new KitError("E_RAMDISK_FILE_TOO_LARGE", message, { details: { path, sizeBytes: size } });
}

function shown(path: string): string {
  return JSON.stringify(path.slice(0, 300));
}
