/** Images of the store as one archive (archive-format.ts). */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { open } from "node:fs/promises";

import { KitError } from "../../core/errors.ts";
import { encodeTarMember, tarPadding } from "../../wire/tar/tar-header-encoder.ts";
import { TAR_BLOCK_BYTES } from "../../wire/tar/tar-header.ts";
import {
  BLOBS_FOLDER,
  EMPTY_BLOB,
  encodeIndex,
  encodeLayout,
  encodeManifest,
  INDEX_NAME,
  type Layer,
  LAYOUT_NAME,
  layerOf,
  MAX_ARCHIVE_IMAGES,
} from "./archive-format.ts";
import { type ImageFolder, readAtMost } from "./image-folder.ts";
import { encodeDescription, MAX_PROVENANCE_BYTES } from "./image-info.ts";
import { readChunks } from "./image-intake.ts";
import { resolveImage } from "./image-lookup.ts";
import { renderTag } from "./image-reference.ts";
import type { StoreLayout } from "./store-layout.ts";
import { damaged, storeStep } from "./store-refusals.ts";

/** Two blocks of zeros. */
const END_BYTES = 2 * TAR_BLOCK_BYTES;

export interface SaveOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: SaveProgress) => void) | undefined;
}

export interface SaveProgress {
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface SavedImage {
  readonly digest: string;
  /** The tags that went along. */
  readonly tags: readonly string[];
}

export interface SavePlan {
  readonly images: readonly SavedImage[];
  /** Of the archive. */
  readonly totalBytes: number;
  /** Can be read once. @throws E_STORE_DAMAGED if an image is not what its digest says, the signal's reason */
  readonly stream: () => AsyncGenerator<Uint8Array>;
}

type Content = Uint8Array | { readonly path: string };

interface Member {
  readonly name: string;
  readonly header: Buffer;
  readonly layer: Layer;
  readonly content: Content;
}

/**
 * Works out an archive of the images that `references` name. A tag goes along where it is how an image was named.
 * @throws E_STORE_REFERENCE, E_STORE_NOT_FOUND, E_STORE_AMBIGUOUS, E_STORE_DAMAGED, E_STORE_ARCHIVE for too many
 */
export async function planSave(
  layout: StoreLayout,
  references: readonly string[],
  options: SaveOptions = {},
): Promise<SavePlan> {
  const chosen = await chooseImages(layout, references);
  const blobs = new Map<string, Member>();
  const add = (content: Uint8Array): Layer => addBlob(blobs, layerOf(content), content);
  add(EMPTY_BLOB);
  const manifests: { manifest: Layer; tag: string | undefined }[] = [];
  for (const { image, tags } of chosen) {
    const { digest, info, eifPath } = image;
    const eif = addBlob(blobs, { digest, size: info.sizeBytes }, { path: eifPath });
    const provenance = await addProvenance(blobs, image.provenancePath);
    const manifest = add(encodeManifest({ eif, info: add(encodeDescription(info)), provenance }));
    for (const tag of tags.length === 0 ? [undefined] : tags) manifests.push({ manifest, tag });
  }
  const index = encodeIndex(manifests);
  const head = [member(LAYOUT_NAME, encodeLayout()), member(INDEX_NAME, index)];
  const members = [...head, ...[...blobs.values()].sort((a, b) => (a.name < b.name ? -1 : 1))];
  const totalBytes = members.reduce((sum, each) => sum + lengthOf(each), END_BYTES);
  const images = chosen.map(({ image, tags }) => ({ digest: image.digest, tags }));
  return { images, totalBytes, stream: () => streamMembers(members, totalBytes, options) };
}

interface Chosen {
  readonly image: ImageFolder;
  readonly tags: string[];
}

/** Each image once, by digest; tags sorted. */
async function chooseImages(layout: StoreLayout, references: readonly string[]): Promise<Chosen[]> {
  const chosen = new Map<string, Chosen>();
  for (const reference of new Set(references)) {
    const { image, tag } = await resolveImage(layout, reference);
    const known = chosen.get(image.digest) ?? { image, tags: [] };
    if (tag !== undefined) known.tags.push(renderTag(tag));
    chosen.set(image.digest, known);
  }
  if (chosen.size > MAX_ARCHIVE_IMAGES)
    throw new KitError("E_STORE_ARCHIVE", `an archive has at most ${MAX_ARCHIVE_IMAGES} images`);
  for (const { tags } of chosen.values()) tags.splice(0, tags.length, ...[...new Set(tags)].sort());
  return [...chosen.values()].sort((a, b) => (a.image.digest < b.image.digest ? -1 : 1));
}

/** Read twice rather than kept: there may be many. */
async function addProvenance(
  blobs: Map<string, Member>,
  path: string | undefined,
): Promise<Layer | undefined> {
  if (path === undefined) return undefined;
  const bytes = await storeStep(path, async () => await readAtMost(path, MAX_PROVENANCE_BYTES + 1));
  if (bytes === undefined) throw damaged(path, "it is missing");
  if (bytes.length > MAX_PROVENANCE_BYTES) throw damaged(path, "it is too large");
  return addBlob(blobs, layerOf(bytes), { path });
}

function member(name: string, content: Uint8Array): Member {
  return toMember(name, layerOf(content), content);
}

function toMember(name: string, layer: Layer, content: Content): Member {
  const { size } = layer;
  const header = encodeTarMember({ name, type: "file", mode: 0o644, uid: 0, gid: 0, size, mtimeNs: 0n, linkName: "" }); // prettier-ignore
  return { name, header, layer, content };
}

function lengthOf({ header, layer }: Member): number {
  return header.length + layer.size + tarPadding(layer.size);
}

function addBlob(blobs: Map<string, Member>, layer: Layer, content: Content): Layer {
  const name = `${BLOBS_FOLDER}/${layer.digest}`;
  if (!blobs.has(name)) blobs.set(name, toMember(name, layer, content));
  return layer;
}

async function* streamMembers(
  members: readonly Member[],
  totalBytes: number,
  { signal, onProgress }: SaveOptions,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for (const { header, layer, content } of members) {
    yield header;
    for await (const chunk of content instanceof Uint8Array ? [content] : readChecked(content.path, layer)) {
      signal?.throwIfAborted();
      yield chunk;
      bytes += chunk.length;
      onProgress?.({ bytes, totalBytes });
    }
    yield Buffer.alloc(tarPadding(layer.size));
  }
  yield Buffer.alloc(END_BYTES);
}

/** The file, which must have exactly the bytes that its header promises. */
async function* readChecked(path: string, { digest, size }: Layer): AsyncGenerator<Uint8Array> {
  await using file = await storeStep(path, async () => await open(path, constants.O_RDONLY));
  const hash = createHash("sha256");
  let left = size;
  for await (const chunk of readChunks(file, path)) {
    left -= chunk.length;
    if (left < 0) break;
    hash.update(chunk);
    // A copy: the buffer is used again while a writer may still hold this part of it.
    yield Buffer.from(chunk);
  }
  if (left !== 0 || hash.digest("hex") !== digest) throw damaged(path, `it is not ${digest}`);
}
