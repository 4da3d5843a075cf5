/** Tags: one small file each, written elsewhere and renamed, so that it names one image or another and never half of one. */
import { mkdir, open, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";

import { isErrno } from "../../core/errors.ts";
import { readAtMost } from "./image-folder.ts";
import { type ImageTag, parseDigest, renderDigest } from "./image-reference.ts";
import { type StoreLayout, tagOfFile } from "./store-layout.ts";
import { damaged } from "./store-refusals.ts";
import { namesIn, type WorkFolder } from "./work-folder.ts";

const MAX_TAG_BYTES = 100;

/** @returns the digest, or undefined if there is no such tag. @throws E_STORE_DAMAGED */
export async function readTag(layout: StoreLayout, tag: ImageTag): Promise<string | undefined> {
  const path = layout.tag(tag);
  const bytes = await readAtMost(path, MAX_TAG_BYTES);
  if (bytes === undefined) return undefined;
  const digest = parseDigest(bytes.toString("latin1").replace(/\n$/, ""));
  if (digest === undefined) throw damaged(path, "it holds no digest");
  return digest;
}

/** All tags, sorted by name and tag. */
export async function listTags(layout: StoreLayout): Promise<ImageTag[]> {
  const tags: ImageTag[] = [];
  for (const folder of await namesIn(layout.tags)) {
    for (const file of await namesIn(join(layout.tags, folder))) {
      const tag = tagOfFile(folder, file);
      if (tag !== undefined) tags.push(tag);
    }
  }
  return tags;
}

/** Needs the lock of the store. */
export async function writeTag(
  layout: StoreLayout,
  work: WorkFolder,
  { tag, digest }: { readonly tag: ImageTag; readonly digest: string },
): Promise<void> {
  const path = layout.tag(tag);
  const temporary = work.path("tag");
  await rm(temporary, { force: true });
  await using file = await open(temporary, "wx", 0o600);
  await file.writeFile(`${renderDigest(digest)}\n`);
  await file.datasync();
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await rename(temporary, path);
}

/** Needs the lock of the store. @returns false if it was gone. */
export async function removeTag(layout: StoreLayout, tag: ImageTag): Promise<boolean> {
  const path = layout.tag(tag);
  try {
    await rm(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
  await rmdir(dirname(path)).catch((error: unknown) => {
    if (!isErrno(error, "ENOTEMPTY") && !isErrno(error, "ENOENT")) throw error;
  });
  return true;
}
