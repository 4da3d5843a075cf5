/**
 * The first ramdisk of an image: what runs before the application's files are the root. It depends on no application,
 * and neither does PCR1, which measures it with the kernel and the command line.
 *
 *   dev/            0755
 *   dev/console     0600, character device 5:1, so that init has a place to write to
 *   init            0755
 *   modules/        0755, only if there are modules
 *   modules/NN-NAME.ko   0644, loaded in the order of their numbers
 */
import { KitError } from "../../core/errors.ts";
import type { ManifestEntry } from "../../wire/manifest.ts";
import type { BlobStore, StoredBlob } from "../blob-store.ts";
import { compareBytes } from "../file-tree.ts";
import type { PreparedFile } from "../prepared-file.ts";
import { prepareSegment } from "./segment-cache.ts";
import type { RamdiskCompression } from "./segment-writer.ts";

/** Two digits. */
const MAX_MODULES = 100;

export interface BootModule {
  /** With or without `.ko`. */
  readonly name: string;
  /** Not compressed. */
  readonly blob: StoredBlob;
}

export interface BootRamdiskOptions {
  readonly init: StoredBlob;
  /** In the order in which they are loaded. */
  readonly modules: readonly BootModule[];
  /** What the kernel can decompress; "zstd" unless told. */
  readonly compression?: RamdiskCompression | undefined;
  readonly blobs: BlobStore;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
}

/** @throws E_RAMDISK_MODULE, E_RAMDISK_FILE_TOO_LARGE, E_IMAGE_BLOB_MISSING, E_DISK_FULL */
export async function prepareBootRamdisk(options: BootRamdiskOptions): Promise<readonly PreparedFile[]> {
  const entries = bootEntries(options);
  const { path, sizeBytes, crc32 } = await prepareSegment(
    { prefix: "", entries, linkedFiles: new Map() },
    options,
  );
  return [{ path, sizeBytes, crc32 }];
}

function bootEntries({ init, modules }: BootRamdiskOptions): ManifestEntry[] {
  if (modules.length > MAX_MODULES)
    throw new KitError("E_RAMDISK_MODULE", `${modules.length} kernel modules are to be loaded at boot`);
  const entries: ManifestEntry[] = [
    { type: "directory", path: "/dev", mode: 0o755, ...ROOT },
    { type: "character", path: "/dev/console", mode: 0o600, ...ROOT, major: 5, minor: 1 },
    { type: "file", path: "/init", mode: 0o755, ...ROOT, ...init },
  ];
  if (modules.length > 0) entries.push({ type: "directory", path: "/modules", mode: 0o755, ...ROOT });
  for (const [index, { name, blob }] of modules.entries())
    entries.push({ type: "file", path: modulePath(index, name), mode: 0o644, ...ROOT, ...blob });
  return entries.sort((a, b) => compareBytes(a.path, b.path));
}

const ROOT = { uid: 0, gid: 0 };

function modulePath(index: number, name: string): string {
  const word = name.replace(/\.ko$/, "");
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(word))
    throw new KitError("E_RAMDISK_MODULE", `${JSON.stringify(name.slice(0, 100))} is no name of a module`);
  return `/modules/${String(index).padStart(2, "0")}-${word}.ko`;
}
