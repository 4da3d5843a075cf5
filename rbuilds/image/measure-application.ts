/**
 * Register 2 of an image that is never written as a file: that of the application ramdisk which its manifest makes. What
 * was measured once is kept beside the ramdisks, by the names of the manifests.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { writeFileAtomic } from "../../core/atomic-file.ts";
import { isErrno } from "../../core/errors.ts";
import { openBlobStore } from "../blob-store.ts";
import type { BuiltImage } from "../built-image.ts";
import { extendZero } from "../eif/measurements.ts";
import { decodeManifest } from "../manifest-file.ts";
import { prepareApplicationRamdisk } from "../ramdisk/application-ramdisk.ts";

export interface MeasureOptions {
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
}

export type MeasuredFiles = Pick<BuiltImage, "manifestPath" | "baseManifestPath" | "blobsDirectory">;

const REGISTER = /^[0-9a-f]{96}$/;

/** @returns lower-case hex of 48 bytes. @throws what prepareApplicationRamdisk throws */
export async function measureApplication(
  files: MeasuredFiles,
  { cacheDir, signal }: MeasureOptions,
): Promise<string> {
  const manifests = await Promise.all([readFile(files.manifestPath), readFile(files.baseManifestPath)]);
  const folder = join(cacheDir, "measurements");
  const known = join(folder, manifests.map(digestOf).join("-"));
  const kept = await readKept(known);
  if (kept !== undefined) return kept;
  const [manifest, baseManifest] = manifests.map((bytes) => decodeManifest(bytes));
  if (manifest === undefined) throw new TypeError("a manifest is missing");
  const blobs = await openBlobStore(files.blobsDirectory);
  const parts = await prepareApplicationRamdisk({ manifest, baseManifest, blobs, cacheDir, signal });
  const hash = createHash("sha384");
  for (const { path } of parts)
    for await (const chunk of createReadStream(path, { signal })) hash.update(chunk);
  const register = extendZero(hash.digest("hex"));
  await mkdir(folder, { recursive: true });
  await writeFileAtomic(known, register);
  return register;
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 32);
}

async function readKept(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, "utf8");
    return REGISTER.test(text) ? text : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}
