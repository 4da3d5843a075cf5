/** Lists what a ramdisk holds, in the order in which the kernel would unpack it. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

import { splitStreams, type RamdiskStream } from "./compressed-streams.ts";
import { readExactly } from "./image-layout.ts";
import { parseArchive, type NewcEntry } from "./newc-archive.ts";

export interface RamdiskEntry {
  /** As UTF-8; bytes that are none became U+FFFD, so compare `pathBytes` where that may happen. */
  readonly path: string;
  readonly pathBytes: Buffer;
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly inode: number;
  readonly links: number;
  readonly mtime: number;
  readonly device: readonly [major: number, minor: number];
  /** Of a character or block device, otherwise zeros. */
  readonly node: readonly [major: number, minor: number];
  /** Of the content or the link's target; every name of a hard-linked file has the one content. */
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly linkTarget?: string;
  /** Which stream of the ramdisk it is in, from 0. */
  readonly stream: number;
}

const SYMLINK = 0o120000;
const FILE = 0o100000;

/** @throws Error when a stream or an archive is not whole, or something other than zero bytes lies between them. */
export async function listRamdisk(path: string, offset: number, size: number): Promise<RamdiskEntry[]> {
  const streams = await readRamdiskStreams(path, offset, size);
  return streams.flatMap(({ content }, stream) => listStream(content, stream));
}

/** The streams a ramdisk is made of, decompressed. */
export async function readRamdiskStreams(
  path: string,
  offset: number,
  size: number,
): Promise<RamdiskStream[]> {
  const ramdisk = await readRange(path, offset, size);
  return splitStreams(ramdisk, (rest) => parseArchive(rest).end);
}

async function readRange(path: string, offset: number, size: number): Promise<Buffer> {
  await using file = await open(path);
  return await readExactly(file, offset, size);
}

/** One stream may hold several archives, each with its trailer; inode numbers count within one archive. */
function listStream(content: Buffer, stream: number): RamdiskEntry[] {
  const listed: RamdiskEntry[] = [];
  let position = 0;
  while (position < content.length) {
    if (content[position] === 0) {
      position++;
      continue;
    }
    if (position % 4 !== 0)
      throw new Error(`an archive starts at ${position} of its stream, no multiple of four`);
    const { entries, end } = parseArchive(content.subarray(position));
    for (const entry of listArchive(entries, stream)) listed.push(entry);
    position += end;
  }
  return listed;
}

function listArchive(entries: readonly NewcEntry[], stream: number): RamdiskEntry[] {
  const contents = linkedContents(entries);
  return entries.map((entry) => {
    checkName(entry.name);
    const { data, name, ...rest } = entry;
    const content = contents.get(linkKey(entry)) ?? data;
    return {
      ...rest,
      path: name.toString("utf8"),
      pathBytes: name,
      sizeBytes: content.length,
      sha256: createHash("sha256").update(content).digest("hex"),
      ...(kind(entry) === SYMLINK ? { linkTarget: data.toString("utf8") } : {}),
      stream,
    };
  });
}

/** A file of several names carries its content with one of them. */
function linkedContents(entries: readonly NewcEntry[]): Map<string, Buffer> {
  const contents = new Map<string, Buffer>();
  for (const entry of entries) {
    if (kind(entry) !== FILE && kind(entry) !== SYMLINK && entry.data.length > 0) {
      throw new Error(`${entry.name.toString("utf8")} is neither file nor link, yet has data`);
    }
    if (kind(entry) !== FILE || entry.links < 2 || entry.data.length === 0) continue;
    if (contents.has(linkKey(entry))) throw new Error(`inode ${entry.inode} carries data twice`);
    contents.set(linkKey(entry), entry.data);
  }
  return contents;
}

function linkKey({ inode, device, links }: NewcEntry): string {
  return links < 2 ? "" : `${device.join(":")}:${inode}`;
}

function kind({ mode }: NewcEntry): number {
  return mode & 0o170000;
}

function checkName(name: Buffer): void {
  const parts = name.toString("latin1").split("/");
  if (parts.some((part) => part === "" || part === "..") || (parts.includes(".") && parts.length > 1)) {
    throw new Error(`the path ${JSON.stringify(name.toString("utf8"))} is not plain`);
  }
}
