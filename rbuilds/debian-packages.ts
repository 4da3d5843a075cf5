import { forEachConcurrently } from "../core/concurrency.ts";
import { fetchPackages } from "./apt-fetch.ts";
import type { AptOptions, PackageProgress } from "./apt-lists.ts";
import type { AptSystem } from "./apt-program.ts";
import type { BlobStore } from "./blob-store.ts";
import type { LockedPackage } from "./locked-package.ts";
import { readUnpacked, unpackDeb } from "./unpack-deb.ts";
import type { UnpackedPackage } from "./unpacked-package.ts";

export interface OpenPackagesOptions {
  readonly architecture: AptOptions["architecture"];
  readonly blobs: BlobStore;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PackageProgress) => void) | undefined;
  readonly system?: AptSystem | undefined;
  /** See AptOptions. */
  readonly sources?: AptOptions["sources"];
}

/** Unpacking is mostly writing and hashing; more at once would not be faster. */
const AT_ONCE = 4;

/**
 * The packages of a lock with their files in the blob store: from the cache where they were unpacked before, fetched
 * and unpacked where not.
 * @throws what fetchPackages and unpackDeb throw.
 */
export async function openPackages(
  locked: readonly LockedPackage[],
  options: OpenPackagesOptions,
): Promise<readonly UnpackedPackage[]> {
  const found = new Map<string, UnpackedPackage>();
  await forEachConcurrently(locked, AT_ONCE, async (entry) => {
    options.signal?.throwIfAborted();
    const unpacked = await readUnpacked(entry, options);
    if (unpacked !== undefined) found.set(entry.name, unpacked);
  });
  const absent = locked.filter((entry) => !found.has(entry.name));
  if (absent.length > 0) await unpackAbsent(absent, options, found);
  return locked.map((entry) => found.get(entry.name)).filter((each) => each !== undefined);
}

async function unpackAbsent(
  absent: readonly LockedPackage[],
  options: OpenPackagesOptions,
  found: Map<string, UnpackedPackage>,
): Promise<void> {
  const paths = await fetchPackages(absent, options);
  const totalBytes = absent.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  let done = 0;
  let bytes = 0;
  await forEachConcurrently(absent, AT_ONCE, async (entry) => {
    options.signal?.throwIfAborted();
    found.set(entry.name, await unpackDeb(entry, paths.get(entry.name) ?? "", options));
    done += 1;
    bytes += entry.sizeBytes;
    options.onProgress?.({ stage: "unpack", done, total: absent.length, bytes, totalBytes });
  });
}
