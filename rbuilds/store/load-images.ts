/**
 * Images of an archive (archive-format.ts) into the store. All of it is read and checked before anything is stored; a
 * file that no image needs is refused, since whoever made the archive meant something by it.
 */
import { mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";

import { KitError } from "../../core/errors.ts";
import { decodeIndex, decodeLayout, decodeManifest, refuseArchive } from "./archive-decoder.ts";
import { type ImageLayers, type Layer, layerOf, EMPTY_BLOB, MAX_JSON_BYTES } from "./archive-format.ts";
import { type Spool, spoolArchive, type SpoolOptions } from "./archive-spool.ts";
import {
  decodeDescription,
  type ImageDescription,
  MAX_INFO_BYTES,
  MAX_PROVENANCE_BYTES,
} from "./image-info.ts";
import type { StoredImage } from "./image-lookup.ts";
import type { ImageTag } from "./image-reference.ts";
import { describeFolder, publish, type PreparedImage } from "./publication.ts";
import { EIF_FILE, type StoreLayout } from "./store-layout.ts";
import { storeStep } from "./store-refusals.ts";
import { openWorkFolder, type WorkFolder } from "./work-folder.ts";

export interface LoadOptions extends SpoolOptions {
  /** Looks whether an image is what its description says, for example that its PCRs are; throws if not. */
  readonly verify?: ((eifPath: string, description: ImageDescription) => Promise<void>) | undefined;
}

/**
 * @param stream an archive; ended also where it is refused.
 * @returns the images as they then are, in the order of the archive.
 * @throws E_STORE_ARCHIVE, E_STORE_DIGEST, E_DISK_FULL, E_STORE_ACCESS, E_STORE_BUSY, the signal's
 *   reason, what `verify` and `stream` throw; nothing is stored then
 */
export async function loadImages(
  layout: StoreLayout,
  stream: AsyncIterable<Uint8Array>,
  options: LoadOptions = {},
): Promise<StoredImage[]> {
  await using work = await openWorkFolder(layout);
  const spool = await spoolArchive(stream, work, options);
  const images = await checkArchive(spool);
  const prepared: PreparedImage[] = [];
  // All small files before the first image leaves its place: they may be the same blob.
  for (const image of images) prepared.push(await describeImage(spool, work, image));
  for (const [index, { digest, folder }] of prepared.entries()) {
    options.signal?.throwIfAborted();
    const eifPath = join(folder, EIF_FILE);
    await storeStep(folder, async () => await rename(spool.blobPath(digest), eifPath));
    const description = images[index]?.description;
    if (description !== undefined) await options.verify?.(eifPath, description);
  }
  options.signal?.throwIfAborted();
  return await publish(layout, work, prepared);
}

interface CheckedImage {
  readonly description: ImageDescription;
  readonly layers: ImageLayers;
  readonly tags: readonly ImageTag[];
}

async function checkArchive(spool: Spool): Promise<CheckedImage[]> {
  decodeLayout(spool.layout);
  const claims = new Claims(spool);
  const images: CheckedImage[] = [];
  for (const { manifest, tags } of decodeIndex(spool.index)) {
    const place = `the manifest ${manifest.digest}`;
    claims.claim(manifest, "manifest", MAX_JSON_BYTES);
    const layers = decodeManifest(await readBlob(spool, manifest), place);
    claims.claim(layerOf(EMPTY_BLOB), "configuration", EMPTY_BLOB.length);
    claims.claimImage(layers.eif);
    claims.claim(layers.info, "info.json", MAX_INFO_BYTES);
    if (layers.provenance !== undefined) claims.claim(layers.provenance, "provenance", MAX_PROVENANCE_BYTES);
    const description = decodeDescription(await readBlob(spool, layers.info), refuseArchive);
    if (description.digest !== layers.eif.digest || description.sizeBytes !== layers.eif.size)
      throw new KitError("E_STORE_DIGEST", `${place}: its info.json is of another image than its EIF`);
    images.push({ description, layers, tags });
  }
  claims.refuseUnclaimed();
  return images;
}

/** What images need. The same bytes may be needed twice (a provenance is opaque), but an image is there once. */
class Claims {
  readonly #spool: Spool;
  readonly #needed = new Set<string>();
  readonly #images = new Set<string>();

  constructor(spool: Spool) {
    this.#spool = spool;
  }

  claimImage(layer: Layer): void {
    this.claim(layer, "image", Infinity);
    if (this.#images.has(layer.digest)) throw refuseArchive(`the image ${layer.digest} is there twice`);
    this.#images.add(layer.digest);
  }

  claim({ digest, size }: Layer, role: string, maxBytes: number): void {
    const sizeBytes = this.#spool.blobs.get(digest);
    if (sizeBytes === undefined) throw refuseArchive(`the ${role} ${digest} is missing`);
    if (sizeBytes !== size) {
      const message = `the archive: the ${role} ${digest} has ${sizeBytes} bytes instead of ${size}`;
      throw new KitError("E_STORE_DIGEST", message);
    }
    if (sizeBytes > maxBytes) throw refuseArchive(`the ${role} ${digest} has ${sizeBytes} bytes`);
    this.#needed.add(digest);
  }

  refuseUnclaimed(): void {
    const extra = [...this.#spool.blobs.keys()].find((digest) => !this.#needed.has(digest));
    if (extra !== undefined) throw refuseArchive(`no image needs ${extra}`);
  }
}

/** Its size was checked. */
async function readBlob(spool: Spool, { digest }: Layer): Promise<Buffer> {
  const path = spool.blobPath(digest);
  return await storeStep(path, async () => await readFile(path));
}

async function describeImage(spool: Spool, work: WorkFolder, image: CheckedImage): Promise<PreparedImage> {
  const { description, layers, tags } = image;
  const { digest } = description;
  const folder = work.path(`image-${digest}`);
  await storeStep(folder, async () => await mkdir(folder, { mode: 0o700 }));
  const provenance = layers.provenance === undefined ? undefined : await readBlob(spool, layers.provenance);
  await describeFolder(folder, description, provenance);
  return { digest, folder, tags };
}
