/**
 * The second ramdisk of an image: the whole manifest below `rootfs/`, which the boot ramdisk's init makes the root. It
 * is written as up to three zstd frames, each one complete newc archive, so that an unchanged part is not compressed
 * again; Linux takes any concatenation of these.
 */
import type { Manifest } from "../../wire/manifest.ts";
import type { BlobStore } from "../blob-store.ts";
import type { PreparedFile } from "../prepared-file.ts";
import { type SegmentName, splitApplication } from "./application-segments.ts";
import { checkSegment } from "./segment.ts";
import { prepareSegment } from "./segment-cache.ts";
import type { RamdiskCompression } from "./segment-writer.ts";

export interface ApplicationRamdiskProgress {
  readonly segment: SegmentName;
  readonly state: "compressing" | "done";
}

export interface ApplicationRamdiskOptions {
  readonly manifest: Manifest;
  /** The base before anything was copied; without one everything but the runtime is the application. */
  readonly baseManifest: Manifest | undefined;
  /** What the kernel can decompress; "zstd" unless told. */
  readonly compression?: RamdiskCompression | undefined;
  readonly blobs: BlobStore;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: ApplicationRamdiskProgress) => void) | undefined;
}

/**
 * The files that follow one another make the ramdisk.
 * @throws E_RAMDISK_FILE_TOO_LARGE, E_RAMDISK_XATTR, E_RAMDISK_PATH before anything is read; E_IMAGE_TOO_MANY_FILES,
 *   E_IMAGE_BLOB_MISSING, E_DISK_FULL
 */
export async function prepareApplicationRamdisk(
  options: ApplicationRamdiskOptions,
): Promise<readonly PreparedFile[]> {
  const parts = splitApplication(options.manifest, options.baseManifest);
  for (const { segment } of parts) checkSegment(segment);
  const files: PreparedFile[] = [];
  for (const { name, segment } of parts) {
    options.signal?.throwIfAborted();
    options.onProgress?.({ segment: name, state: "compressing" });
    const { path, sizeBytes, crc32 } = await prepareSegment(segment, options);
    options.onProgress?.({ segment: name, state: "done" });
    files.push({ path, sizeBytes, crc32 });
  }
  return files;
}
