/**
 * Files of an image, whether they lie in a directory or in a tar archive. An archive is read once to note where each
 * member begins; nothing of it is unpacked to disk.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError } from "../core/errors.ts";
import { readTar } from "../wire/tar/tar-reader.ts";
import { imageTarRefusal } from "./tar-refusals.ts";

const MAX_MEMBERS = 100_000;
const READ_BYTES = 256 * 1024;

/** Content named by its digest, or (docker save) by its path alone. */
export interface BlobReference {
  /** Path inside the layout. */
  readonly name: string;
  /** `sha256:...` where the image gives one. */
  readonly digest: string | undefined;
  readonly size: number | undefined;
}

export interface OciFiles extends AsyncDisposable {
  /** A file by its path, or undefined. @throws E_IMAGE_OCI over `maxBytes`. */
  readFile(name: string, maxBytes: number): Promise<Buffer | undefined>;
  /** @throws E_IMAGE_OCI when absent or too large, E_IMAGE_OCI_DIGEST. */
  readBlob(reference: BlobReference, maxBytes: number): Promise<Buffer>;
  /** The content; digest and size are checked when it ends. */
  streamBlob(reference: BlobReference): AsyncIterable<Uint8Array>;
}

interface Extent {
  readonly size: number;
  stream(): AsyncIterable<Uint8Array>;
}

type Lookup = (name: string) => Promise<Extent | undefined>;

/** @param signal ends the reading of an archive's table. @throws E_CONFIG_FILE_MISSING, E_IMAGE_OCI, E_IMAGE_TAR */
export async function openOciFiles(path: string, signal?: AbortSignal): Promise<OciFiles> {
  const info = await stat(path).catch((error: unknown) => {
    const reason = isErrno(error) ? error.code : String(error);
    throw new KitError("E_CONFIG_FILE_MISSING", `cannot read ${path}: ${reason}`, { cause: error });
  });
  if (info.isDirectory()) return toFiles(path, directoryLookup(path), undefined);
  const file = await open(path, "r");
  try {
    return toFiles(path, await archiveLookup(path, file, signal), file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function toFiles(path: string, lookup: Lookup, file: FileHandle | undefined): OciFiles {
  const find = async (reference: BlobReference): Promise<Extent> => {
    const extent = await lookup(reference.name);
    if (extent === undefined) throw new KitError("E_IMAGE_OCI", `${path}: ${reference.name} is missing`);
    return extent;
  };
  return {
    readFile: async (name, maxBytes) => {
      const extent = await lookup(name);
      return extent === undefined ? undefined : await collect(extent, maxBytes, `${path}: ${name}`);
    },
    readBlob: async (reference, maxBytes) => {
      const extent = await find(reference);
      const checked = { size: extent.size, stream: () => checkedStream(extent, reference, path) };
      return await collect(checked, maxBytes, `${path}: ${reference.name}`);
    },
    async *streamBlob(reference) {
      yield* checkedStream(await find(reference), reference, path);
    },
    [Symbol.asyncDispose]: async () => await file?.close(),
  };
}

async function collect(extent: Extent, maxBytes: number, where: string): Promise<Buffer> {
  if (extent.size > maxBytes)
    throw new KitError("E_IMAGE_OCI", `${where} has ${extent.size} bytes; at most ${maxBytes} are read`);
  const parts: Uint8Array[] = [];
  for await (const part of extent.stream()) parts.push(part);
  return Buffer.concat(parts);
}

async function* checkedStream(
  extent: Extent,
  reference: BlobReference,
  path: string,
): AsyncGenerator<Uint8Array> {
  if (reference.size !== undefined && reference.size !== extent.size) {
    throw new KitError(
      "E_IMAGE_OCI_DIGEST",
      `${path}: ${reference.name} has ${extent.size} bytes instead of ${reference.size}`,
    );
  }
  const hash = createHash("sha256");
  for await (const chunk of extent.stream()) {
    hash.update(chunk);
    yield chunk;
  }
  const digest = `sha256:${hash.digest("hex")}`;
  if (reference.digest !== undefined && reference.digest !== digest) {
    throw new KitError(
      "E_IMAGE_OCI_DIGEST",
      `${path}: ${reference.name} is ${digest} instead of ${reference.digest}`,
    );
  }
}

/** Names were checked to stay inside (oci-manifest.ts); a link in the layout that leads outside only reads a wrong file. */
function directoryLookup(path: string): Lookup {
  return async (name) => {
    const file = join(path, name);
    try {
      const info = await stat(file);
      return info.isFile() ? { size: info.size, stream: () => createReadStream(file) } : undefined;
    } catch (error) {
      if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
      throw error;
    }
  };
}

interface Extents {
  readonly members: Map<string, { readonly offset: number; readonly size: number }>;
  /** Links by name: docker saves a layer that several images share once. */
  readonly aliases: Map<string, string>;
}

async function archiveLookup(path: string, file: FileHandle, signal?: AbortSignal): Promise<Lookup> {
  await refuseCompressed(path, file);
  const { members, aliases } = await findMembers(path, file, signal);
  return (name) => {
    const extent = members.get(name) ?? members.get(aliases.get(name) ?? "");
    if (extent === undefined) return Promise.resolve(undefined);
    const { offset, size } = extent;
    return Promise.resolve({ size, stream: () => readRange(file, offset, size) });
  };
}

async function findMembers(path: string, file: FileHandle, signal?: AbortSignal): Promise<Extents> {
  const extents: Extents = { members: new Map(), aliases: new Map() };
  const { members, aliases } = extents;
  const archive = readRange(file, 0, Number.MAX_SAFE_INTEGER);
  for await (const member of readTar(archive, { refuse: imageTarRefusal(path) })) {
    signal?.throwIfAborted();
    if (members.size + aliases.size >= MAX_MEMBERS)
      throw new KitError("E_IMAGE_OCI", `${path} has more than ${MAX_MEMBERS} members`);
    const name = member.name.replace(/^(?:\.\/)+/, "");
    if (member.type === "file") members.set(name, { offset: member.offset, size: member.size });
    if (member.type === "symlink") aliases.set(name, join(name, "..", member.linkName));
    if (member.type === "hardlink") aliases.set(name, member.linkName.replace(/^(?:\.\/)+/, ""));
  }
  return extents;
}

/** Members are read where they lie, which nothing can do in a compressed file. */
async function refuseCompressed(path: string, file: FileHandle): Promise<void> {
  const head = Buffer.alloc(4);
  await file.read(head, 0, 4, 0);
  const program = head.readUInt16BE() === 0x1f_8b ? "gunzip" : "unzstd";
  if (program === "unzstd" && head.readUInt32LE() !== 0xfd_2f_b5_28) return;
  throw new KitError("E_IMAGE_OCI", `${path} is compressed`, {
    hint: `Decompress it first: ${program} ${path}`,
  });
}

/** Not a stream of the handle's: each of those stays as a listener until the handle is closed. */
async function* readRange(file: FileHandle, offset: number, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < size;) {
    const length = Math.min(READ_BYTES, size - at);
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, offset + at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
