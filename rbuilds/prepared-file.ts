import { createReadStream } from "node:fs";
import { crc32 } from "node:zlib";

import type { BlobStore, StoredBlob } from "./blob-store.ts";

/** A finished file on this machine that goes into an image as it is. */
export interface PreparedFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** CRC-32/ISO-HDLC of the whole file: an image's checksum is combined from these. */
  readonly crc32: number;
}

export async function prepareBlob(blobs: BlobStore, { digest, size }: StoredBlob): Promise<PreparedFile> {
  const path = blobs.path(digest);
  let sum = 0;
  for await (const chunk of createReadStream(path)) sum = crc32(chunk, sum);
  return { path, sizeBytes: size, crc32: sum };
}
