/** Finding images, without a lock: what a reader sees was so at some moment while it looked. */
import { KitError } from "../../core/errors.ts";
import { nearestNames } from "../../core/nearest-name.ts";
import { type ImageFolder, readImageFolder } from "./image-folder.ts";
import { type ImageTag, parseReference, renderDigest, renderTag } from "./image-reference.ts";
import type { StoreLayout } from "./store-layout.ts";
import { quote, storeStep } from "./store-refusals.ts";
import { listTags, readTag } from "./tag-files.ts";
import { namesIn } from "./work-folder.ts";

const DIGEST = /^[0-9a-f]{64}$/;
/** A tag may move to another image, and the old one go, while it is looked up. */
const MAX_LOOKS = 20;
const MAX_SHOWN = 5;

/** What a reference names. */
export interface Resolved {
  readonly digest: string;
  /** Where the reference is one. */
  readonly tag: ImageTag | undefined;
}

/**
 * @returns a digest that may be of a damaged image.
 * @throws E_STORE_REFERENCE, E_STORE_NOT_FOUND, E_STORE_AMBIGUOUS, E_STORE_ACCESS
 */
export async function resolveDigest(layout: StoreLayout, text: string): Promise<Resolved> {
  const { tag, digestPrefix } = parseReference(text);
  return await storeStep(layout.directory, async () => {
    const tagged = tag === undefined ? undefined : await readTag(layout, tag);
    if (tag !== undefined && tagged !== undefined) return { digest: tagged, tag };
    const digest = digestPrefix === undefined ? undefined : await findDigest(layout, digestPrefix);
    if (digest === undefined) throw await notFound(layout, text, tag);
    return { digest, tag: undefined };
  });
}

export async function listDigests(layout: StoreLayout): Promise<string[]> {
  return (await namesIn(layout.images)).filter((name) => DIGEST.test(name));
}

async function findDigest(layout: StoreLayout, prefix: string): Promise<string | undefined> {
  const found = (await listDigests(layout)).filter((digest) => digest.startsWith(prefix));
  if (found.length <= 1) return found[0];
  const shown = found.slice(0, MAX_SHOWN).map(renderDigest);
  throw new KitError("E_STORE_AMBIGUOUS", `${found.length} images begin with ${prefix}`, {
    details: { digests: shown },
  });
}

async function notFound(layout: StoreLayout, text: string, tag: ImageTag | undefined): Promise<KitError> {
  const message = `the store has no image ${quote(text)}`;
  if (tag === undefined) return new KitError("E_STORE_NOT_FOUND", message);
  const known = await listTags(layout);
  const near = new Set([
    ...nearestNames(renderTag(tag), known.map(renderTag)),
    ...known.filter(({ name }) => name === tag.name).map(renderTag),
  ]);
  const [...names] = [...near].slice(0, MAX_SHOWN);
  if (names.length === 0) return new KitError("E_STORE_NOT_FOUND", message);
  return new KitError("E_STORE_NOT_FOUND", message, {
    hint: `Did you mean ${names.join(", ")}? \`pipeline images\` shows all.`,
    details: { nearest: names },
  });
}

/** @throws as resolveDigest, E_STORE_DAMAGED */
export async function resolveImage(
  layout: StoreLayout,
  text: string,
): Promise<{ readonly image: ImageFolder; readonly tag: ImageTag | undefined }> {
  for (let look = 0; look < MAX_LOOKS; look += 1) {
    const { digest, tag } = await resolveDigest(layout, text);
    const image = await readImageFolder(layout, digest);
    if (image !== undefined) return { image, tag };
    const now = tag === undefined ? undefined : await readTag(layout, tag);
    if (now === digest)
      throw new KitError("E_STORE_NOT_FOUND", `${quote(text)} names the image ${digest}, which is gone`);
  }
  throw new KitError("E_STORE_NOT_FOUND", `${quote(text)} keeps changing`);
}

export interface StoredImage extends ImageFolder {
  /** `NAME:TAG` each, sorted. */
  readonly tags: readonly string[];
}

/** The image with its tags; one that cannot be read is left out. */
export async function withTags(layout: StoreLayout, image: ImageFolder): Promise<StoredImage> {
  const tags = await readTags(layout, () => undefined);
  return { ...image, tags: (tags.get(image.digest) ?? []).map(renderTag) };
}

export type TagsByDigest = ReadonlyMap<string, readonly ImageTag[]>;

/** @param onDamaged gets what is wrong with a tag; unless told it is thrown. */
export async function readTags(
  layout: StoreLayout,
  onDamaged: (error: KitError) => void = (error) => {
    throw error;
  },
): Promise<TagsByDigest> {
  const tags = new Map<string, ImageTag[]>();
  for (const tag of await listTags(layout)) {
    const digest = await orDamaged(async () => await readTag(layout, tag), onDamaged);
    if (digest === undefined) continue;
    const known = tags.get(digest);
    if (known === undefined) tags.set(digest, [tag]);
    else known.push(tag);
  }
  return tags;
}

/** Runs `read`, and hands its E_STORE_DAMAGED on. */
export async function orDamaged<T>(
  read: () => Promise<T | undefined>,
  onDamaged: (error: KitError) => void,
): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof KitError) || error.code !== "E_STORE_DAMAGED") throw error;
    onDamaged(error);
    return undefined;
  }
}
