/** The moment at which prepared images and tags become the store's. */
import { chmod, open, realpath, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";
import { holdMachineLock } from "../../core/machine-lock.ts";
import { readImageFolder } from "./image-folder.ts";
import { encodeInfo, type ImageDescription } from "./image-info.ts";
import { orDamaged, type StoredImage, withTags } from "./image-lookup.ts";
import type { ImageTag } from "./image-reference.ts";
import { EIF_FILE, INFO_FILE, PROVENANCE_FILE, type StoreLayout } from "./store-layout.ts";
import { storeStep } from "./store-refusals.ts";
import { writeTag } from "./tag-files.ts";
import type { WorkFolder } from "./work-folder.ts";

/** Longer than any holder needs: nothing is copied or deleted while it is held. */
const LOCK_TIMEOUT_MS = 30_000;

/** A whole folder of an image, not yet in its place. */
export interface PreparedImage {
  readonly digest: string;
  readonly folder: string;
  readonly tags: readonly ImageTag[];
}

/** @throws E_STORE_BUSY */
export async function lockStore(layout: StoreLayout): Promise<AsyncDisposable> {
  const directory = await storeStep(layout.directory, async () => await realpath(layout.directory));
  const lock = await holdMachineLock(`images\0${directory}`, LOCK_TIMEOUT_MS);
  if (lock === undefined) throw new KitError("E_STORE_BUSY", `another command holds ${layout.directory}`);
  return lock;
}

/** Adds what is known of an image to the folder that holds its file, or will. */
export async function describeFolder(
  folder: string,
  description: ImageDescription,
  provenance: Uint8Array | undefined,
): Promise<void> {
  const createdAt = new Date().toISOString();
  const info = encodeInfo({ ...description, createdAt, hasProvenance: provenance !== undefined });
  await storeStep(folder, async () => {
    await writeSynced(join(folder, INFO_FILE), info);
    if (provenance !== undefined) await writeSynced(join(folder, PROVENANCE_FILE), provenance);
  });
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(path, bytes, { flag: "wx", mode: 0o600, flush: true });
}

/**
 * Images that are there already only get the tags; damaged ones are replaced.
 * @returns the images as they then are. @throws E_STORE_BUSY, E_STORE_ACCESS, E_DISK_FULL
 */
export async function publish(
  layout: StoreLayout,
  work: WorkFolder,
  images: readonly PreparedImage[],
): Promise<StoredImage[]> {
  await using _lock = await lockStore(layout);
  return await storeStep(layout.directory, async () => {
    for (const image of images) await putInPlace(layout, work, image);
    await syncFolder(layout.images);
    for (const { digest, tags } of images)
      for (const tag of tags) await writeTag(layout, work, { tag, digest });
    const stored: StoredImage[] = [];
    for (const { digest } of images) {
      const image = await readImageFolder(layout, digest);
      if (image !== undefined) stored.push(await withTags(layout, image));
    }
    return stored;
  });
}

async function putInPlace(layout: StoreLayout, work: WorkFolder, image: PreparedImage): Promise<void> {
  if (await isWhole(layout, image.digest)) return;
  const place = layout.image(image.digest);
  await rename(place, work.path(`damaged-${image.digest}`)).catch((error: unknown) => {
    if (!isErrno(error, "ENOENT")) throw error;
  });
  await chmod(join(image.folder, EIF_FILE), 0o400);
  await rename(image.folder, place);
}

async function isWhole(layout: StoreLayout, digest: string): Promise<boolean> {
  return (
    (await orDamaged(
      async () => await readImageFolder(layout, digest),
      () => undefined,
    )) !== undefined
  );
}

/** So that a name is not there before what it names, should the machine stop. */
async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}
