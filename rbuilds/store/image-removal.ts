/** Taking images out of the store: under its lock they are only put aside; the bytes go afterwards. */
import { rename } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import { listDigests, readTags, resolveDigest, type TagsByDigest } from "./image-lookup.ts";
import { type ImageTag, parseReference, renderDigest, renderTag } from "./image-reference.ts";
import { lockStore } from "./publication.ts";
import type { StoreLayout } from "./store-layout.ts";
import { storeStep } from "./store-refusals.ts";
import { removeTag } from "./tag-files.ts";
import {
  type Abandoned,
  openWorkFolder,
  removeAbandoned,
  sizeOfTree,
  type WorkFolder,
} from "./work-folder.ts";

export interface Removal {
  /** `NAME:TAG` each. */
  readonly untagged: readonly string[];
  /** Digests, 64 hex digits each. */
  readonly deleted: readonly string[];
  readonly freedBytes: number;
}

export interface Collection extends Removal {
  /** What killed processes left. */
  readonly abandoned: Abandoned;
}

/** All of `references`, or none. @throws E_STORE_SEVERAL_TAGS, E_STORE_DAMAGED for a tag that cannot be read, those of resolveDigest */
export async function removeImages(
  layout: StoreLayout,
  references: readonly string[],
  force: boolean,
): Promise<Removal> {
  await using work = await openWorkFolder(layout);
  await using _lock = await lockStore(layout);
  return await storeStep(layout.directory, async () => {
    const { tags, digests } = await planRemoval(layout, references, force);
    const untagged = await untag(layout, tags);
    return { untagged, ...(await putAllAside(layout, work, digests)) };
  });
}

interface RemovalPlan {
  readonly tags: readonly ImageTag[];
  /** Images that have no others. */
  readonly digests: readonly string[];
}

async function planRemoval(
  layout: StoreLayout,
  references: readonly string[],
  force: boolean,
): Promise<RemovalPlan> {
  const tags = new Map<string, ImageTag>();
  const named = new Set<string>();
  const digests = new Set<string>();
  for (const reference of references) {
    const { tag, digest } = await resolveForRemoval(layout, reference);
    if (tag !== undefined) tags.set(renderTag(tag), tag);
    else if (digest !== undefined) named.add(digest);
    if (digest !== undefined) digests.add(digest);
  }
  const all: TagsByDigest = digests.size === 0 ? new Map() : await readTags(layout);
  for (const digest of named) {
    const others = (all.get(digest) ?? []).filter((tag) => !tags.has(renderTag(tag)));
    if (others.length > 1 && !force) throw severalTags(digest, others);
    for (const tag of others) tags.set(renderTag(tag), tag);
  }
  const isUnnamed = (digest: string): boolean =>
    (all.get(digest) ?? []).every((tag) => tags.has(renderTag(tag)));
  return { tags: [...tags.values()], digests: [...digests].filter(isUnnamed) };
}

interface Removable {
  /** Undefined for a tag that cannot be read: it can be removed nevertheless. */
  readonly digest: string | undefined;
  readonly tag: ImageTag | undefined;
}

async function resolveForRemoval(layout: StoreLayout, reference: string): Promise<Removable> {
  try {
    return await resolveDigest(layout, reference);
  } catch (error) {
    const { tag } = parseReference(reference);
    const isDamaged = error instanceof KitError && error.code === "E_STORE_DAMAGED";
    if (!isDamaged || tag === undefined) throw error;
    return { digest: undefined, tag };
  }
}

function severalTags(digest: string, tags: readonly ImageTag[]): KitError {
  const names = tags.map(renderTag);
  const message = `${renderDigest(digest).slice(0, 19)} has ${tags.length} tags: ${names.slice(0, 5).join(", ")}`;
  return new KitError("E_STORE_SEVERAL_TAGS", message, { details: { tags: names } });
}

/** @returns those that were there. */
async function untag(layout: StoreLayout, tags: readonly ImageTag[]): Promise<string[]> {
  const untagged: string[] = [];
  for (const tag of tags) if (await removeTag(layout, tag)) untagged.push(renderTag(tag));
  return untagged;
}

async function putAllAside(
  layout: StoreLayout,
  work: WorkFolder,
  digests: readonly string[],
): Promise<{ deleted: string[]; freedBytes: number }> {
  const deleted: string[] = [];
  let freedBytes = 0;
  for (const digest of digests) {
    const place = work.path(`removed-${digest}`);
    if (!(await tryRename(layout.image(digest), place))) continue;
    deleted.push(digest);
    freedBytes += await sizeOfTree(place);
  }
  return { deleted, freedBytes };
}

async function tryRename(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/**
 * Removes images without tags, tags without images, and what killed processes left.
 * @throws E_STORE_DAMAGED for a tag that cannot be read: it may be of any image.
 */
export async function collectGarbage(layout: StoreLayout): Promise<Collection> {
  const abandoned = await storeStep(layout.directory, async () => await removeAbandoned(layout));
  await using work = await openWorkFolder(layout);
  await using _lock = await lockStore(layout);
  return await storeStep(layout.directory, async () => {
    const tags = await readTags(layout);
    const digests = new Set(await listDigests(layout));
    const dangling = [...tags].flatMap(([digest, names]) => (digests.has(digest) ? [] : names));
    const untagged = await untag(layout, dangling);
    const unnamed = [...digests].filter((digest) => !tags.has(digest));
    const { deleted, freedBytes } = await putAllAside(layout, work, unnamed);
    return { untagged, deleted, freedBytes: freedBytes + abandoned.freedBytes, abandoned };
  });
}
