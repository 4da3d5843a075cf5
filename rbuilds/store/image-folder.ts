/** One image of the store, read back. */
import { open, stat } from "node:fs/promises";
import { join } from "node:path";

import { isErrno } from "../../core/errors.ts";
import { decodeInfo, type ImageInfo, MAX_INFO_BYTES } from "./image-info.ts";
import { EIF_FILE, INFO_FILE, PROVENANCE_FILE, type StoreLayout } from "./store-layout.ts";
import { damaged, storeStep } from "./store-refusals.ts";

export interface ImageFolder {
  readonly digest: string;
  readonly eifPath: string;
  readonly info: ImageInfo;
  readonly provenancePath: string | undefined;
}

/**
 * Reads what is known of an image; the image itself is only measured.
 * @returns undefined if there is no such image.
 * @throws E_STORE_DAMAGED, E_STORE_ACCESS
 */
export async function readImageFolder(layout: StoreLayout, digest: string): Promise<ImageFolder | undefined> {
  const folder = layout.image(digest);
  const infoPath = join(folder, INFO_FILE);
  return await storeStep(folder, async () => {
    const bytes = await readAtMost(infoPath, MAX_INFO_BYTES + 1);
    if (bytes === undefined) return await refuseIfThere(folder, infoPath);
    const info = decodeInfo(bytes, infoPath);
    if (info.digest !== digest) throw damaged(infoPath, `it is of the image ${info.digest}`);
    const eifPath = join(folder, EIF_FILE);
    const provenancePath = info.hasProvenance ? join(folder, PROVENANCE_FILE) : undefined;
    const sizeBytes = await sizeOf(eifPath);
    const provenanceBytes = provenancePath === undefined ? 0 : await sizeOf(provenancePath);
    // Whoever removes an image takes its folder away as a whole.
    if ((await sizeOf(infoPath)) === undefined) return undefined;
    if (sizeBytes === undefined) throw damaged(eifPath, "it is missing");
    if (sizeBytes !== info.sizeBytes)
      throw damaged(eifPath, `it has ${sizeBytes} bytes instead of ${info.sizeBytes}`);
    if (provenancePath !== undefined && provenanceBytes === undefined)
      throw damaged(provenancePath, "it is missing");
    return { digest, eifPath, info, provenancePath };
  });
}

async function refuseIfThere(folder: string, infoPath: string): Promise<undefined> {
  if ((await statOf(folder)) === undefined) return undefined;
  // It may have come into its place just now.
  if ((await sizeOf(infoPath)) === undefined && (await statOf(folder)) !== undefined)
    throw damaged(infoPath, "it is missing");
  return undefined;
}

/** The first bytes of a regular file, or undefined where there is none. */
export async function readAtMost(path: string, maxBytes: number): Promise<Buffer | undefined> {
  try {
    if (!(await stat(path)).isFile()) return undefined;
    await using file = await open(path, "r");
    const buffer = Buffer.alloc(maxBytes);
    let length = 0;
    while (length < maxBytes) {
      const { bytesRead } = await file.read(buffer, length, maxBytes - length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    return buffer.subarray(0, length);
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

async function statOf(path: string): Promise<Awaited<ReturnType<typeof stat>> | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  const info = await statOf(path);
  return info?.isFile() === true ? Number(info.size) : undefined;
}
