/**
 * Where things are in the store.
 *
 *   sha256/DIGEST/image.eif         read-only
 *   sha256/DIGEST/info.json         image-info.ts
 *   sha256/DIGEST/provenance.json   opaque, not always there
 *   tags/NAME/TAG                   `sha256:DIGEST`; `/` of a name is `+` here, so that no name is inside another's
 *   tmp/PID-START-RANDOM/           what a process is busy with, work-folder.ts
 *
 * All of it is one file system: what is finished in `tmp` is renamed into its place, and what is removed is renamed out
 * of it, so that readers, who take no lock, see whole images only.
 */
import { join } from "node:path";

import { type ImageTag, parseTag } from "./image-reference.ts";
import { KitError } from "../../core/errors.ts";

export const EIF_FILE = "image.eif";
export const INFO_FILE = "info.json";
export const PROVENANCE_FILE = "provenance.json";

export interface StoreLayout {
  readonly directory: string;
  readonly images: string;
  readonly tags: string;
  readonly temporary: string;
  readonly image: (digest: string) => string;
  readonly tag: (tag: ImageTag) => string;
}

export function layOut(directory: string): StoreLayout {
  const images = join(directory, "sha256");
  const tags = join(directory, "tags");
  return {
    directory,
    images,
    tags,
    temporary: join(directory, "tmp"),
    image: (digest) => join(images, digest),
    tag: ({ name, tag }) => join(tags, nameToFolder(name), tag),
  };
}

function nameToFolder(name: string): string {
  return name.replaceAll("/", "+");
}

/** The tag of a file below `tags`, or undefined for a file that is none of ours. */
export function tagOfFile(folder: string, file: string): ImageTag | undefined {
  try {
    const tag = parseTag(`${folder.replaceAll("+", "/")}:${file}`);
    return tag.tag === file ? tag : undefined;
  } catch (error) {
    if (error instanceof KitError) return undefined;
    throw error;
  }
}
