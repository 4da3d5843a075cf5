/** The members of an archive of images, spooled: blobs into files, each checked against its name as it passes by. */
import { mkdir } from "node:fs/promises";

import { KitError } from "../../core/errors.ts";
import { readTar, type TarMember } from "../../wire/tar/tar-reader.ts";
import { refuseArchive } from "./archive-decoder.ts";
import {
  BLOBS_FOLDER,
  INDEX_NAME,
  LAYOUT_NAME,
  MAX_ARCHIVE_IMAGES,
  MAX_JSON_BYTES,
} from "./archive-format.ts";
import { MAX_IMAGE_BYTES } from "./image-info.ts";
import { writeMeasured } from "./image-intake.ts";
import { quote, storeStep } from "./store-refusals.ts";
import type { WorkFolder } from "./work-folder.ts";

const FOLDERS = ["", "blobs", BLOBS_FOLDER];
const BLOB = /^blobs\/sha256\/([0-9a-f]{64})$/;
/** Of an image: manifest, EIF, info and provenance; of all: two files, the empty blob, directories. Each may have a pax header. */
const MAX_HEADERS = 2 * (4 * MAX_ARCHIVE_IMAGES + 6);

export interface Spool {
  readonly layout: Uint8Array;
  readonly index: Uint8Array;
  /** Sizes of blobs by their digests. */
  readonly blobs: ReadonlyMap<string, number>;
  readonly blobPath: (digest: string) => string;
}

export interface SpoolOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bytes of the archive so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

/** @throws E_STORE_ARCHIVE, E_STORE_DIGEST, E_DISK_FULL, E_STORE_ACCESS, the signal's reason, what `stream` throws */
export async function spoolArchive(
  stream: AsyncIterable<Uint8Array>,
  work: WorkFolder,
  options: SpoolOptions,
): Promise<Spool> {
  await storeStep(work.path("blobs"), async () => await mkdir(work.path("blobs"), { mode: 0o700 }));
  const documents = new Map<string, Uint8Array>();
  const blobs = new Map<string, number>();
  const blobPath = (digest: string): string => work.path(`blobs/${digest}`);
  for await (const member of readTar(stream, {
    refuse: refuseArchive,
    isWhole: true,
    maxHeaders: MAX_HEADERS,
  })) {
    options.signal?.throwIfAborted();
    const name = nameOf(member);
    if (name === undefined) continue;
    const [, digest] = BLOB.exec(name) ?? [];
    if (documents.has(name) || (digest !== undefined && blobs.has(digest)))
      throw refuseArchive(`${quote(name)} is there twice`);
    if (digest === undefined) documents.set(name, await readDocument(name, member));
    else blobs.set(digest, await spoolBlob(member, digest, { path: blobPath(digest), options }));
  }
  const layout = documents.get(LAYOUT_NAME);
  const index = documents.get(INDEX_NAME);
  if (layout === undefined || index === undefined)
    throw refuseArchive(`it has no ${layout === undefined ? LAYOUT_NAME : INDEX_NAME}`);
  return { layout, index, blobs, blobPath };
}

/** @returns undefined for a directory of the layout; everything else that is no file of it is refused. */
function nameOf(member: TarMember): string | undefined {
  const name = member.name.replace(/^\.(?:\/|$)/, "");
  if (member.type === "directory" && FOLDERS.includes(name.replace(/\/$/, ""))) return undefined;
  if (member.type !== "file") throw refuseArchive(`${quote(member.name)} is a ${member.type}`);
  if (name !== LAYOUT_NAME && name !== INDEX_NAME && !BLOB.test(name))
    throw refuseArchive(`${quote(member.name)} does not belong there`);
  return name;
}

async function readDocument(name: string, { size, content }: TarMember): Promise<Uint8Array> {
  if (size > MAX_JSON_BYTES) throw refuseArchive(`${name} has ${size} bytes`);
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts);
}

interface Destination {
  readonly path: string;
  readonly options: SpoolOptions;
}

async function spoolBlob(member: TarMember, digest: string, { path, options }: Destination): Promise<number> {
  if (member.size > MAX_IMAGE_BYTES) throw refuseArchive(`${quote(member.name)} has ${member.size} bytes`);
  const { signal } = options;
  const onProgress = (bytes: number): void => options.onProgress?.(member.offset + bytes);
  const taken = await writeMeasured(path, member.content, { maxBytes: member.size, signal, onProgress });
  if (taken.digest === digest) return taken.sizeBytes;
  throw new KitError("E_STORE_DIGEST", `the archive: ${quote(member.name)} is ${taken.digest}`);
}
