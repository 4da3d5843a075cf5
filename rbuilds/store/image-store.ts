/**
 * The local store of enclave images (EIF files), by digest and with tags. It does not look inside an image. An image is
 * in the store as a whole or not at all, whatever ends the process that adds it; commands may run at the same time.
 */
import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";

import { KitError } from "../../core/errors.ts";
import { readImageFolder } from "./image-folder.ts";
import {
  type ImageDescription,
  MAX_IMAGE_BYTES,
  MAX_PROVENANCE_BYTES,
  pickDescription,
} from "./image-info.ts";
import { takeFile } from "./image-intake.ts";
import {
  listDigests,
  orDamaged,
  readTags,
  resolveImage,
  type StoredImage,
  withTags,
} from "./image-lookup.ts";
import { parseTag, renderDigest, renderTag } from "./image-reference.ts";
import { collectGarbage, type Collection, type Removal, removeImages } from "./image-removal.ts";
import { loadImages, type LoadOptions } from "./load-images.ts";
import { describeFolder, lockStore, publish } from "./publication.ts";
import { planSave, type SaveOptions, type SavePlan } from "./save-images.ts";
import { EIF_FILE, layOut, type StoreLayout } from "./store-layout.ts";
import { damaged, storeStep } from "./store-refusals.ts";
import { writeTag } from "./tag-files.ts";
import { openWorkFolder } from "./work-folder.ts";

export interface AddRequest {
  readonly eifPath: string;
  /** Digest and size are checked while the file is copied. */
  readonly info: ImageDescription;
  /** Opaque; at most 16 MiB. */
  readonly provenance?: Uint8Array | undefined;
  /** `NAME[:TAG]` each; a tag of another image moves to this one. */
  readonly tags: readonly string[];
  /** The file is taken instead of copied: it is gone from its place afterwards, and only if all went well. */
  readonly move?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Bytes of the file so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

export interface StoreListing {
  /** Sorted by digest. */
  readonly images: readonly StoredImage[];
  /** E_STORE_DAMAGED each, naming a file. */
  readonly damaged: readonly KitError[];
}

/** Everything may throw E_STORE_ACCESS and, where it writes, E_DISK_FULL and E_STORE_BUSY. */
export interface ImageStore {
  readonly layout: StoreLayout;
  /** What is there already only gets the tags. @throws E_STORE_REFERENCE, E_STORE_FILE, E_STORE_DIGEST, the signal's reason */
  add(request: AddRequest): Promise<StoredImage>;
  list(): Promise<StoreListing>;
  /** The files stay until somebody removes the image. @throws E_STORE_REFERENCE, E_STORE_NOT_FOUND, E_STORE_AMBIGUOUS, E_STORE_DAMAGED */
  resolve(reference: string): Promise<StoredImage>;
  /** @param newReference `NAME[:TAG]`; moves there if it is of another image. @throws as resolve */
  tag(reference: string, newReference: string): Promise<StoredImage>;
  /**
   * A tag is taken off, and the image goes with its last one. By digest the image goes with its tag. Of several
   * references all are obeyed or none.
   * @throws E_STORE_SEVERAL_TAGS if it has several and there is no `force`, and as resolve
   */
  remove(reference: string | readonly string[], options?: { readonly force?: boolean }): Promise<Removal>;
  /** Images without tags, tags without images, what killed processes left. @throws E_STORE_DAMAGED */
  collectGarbage(): Promise<Collection>;
  /** An archive of images, not yet written anywhere. @throws E_STORE_ARCHIVE for too many, and as resolve */
  save(references: readonly string[], options?: SaveOptions): Promise<SavePlan>;
  /** Takes all images of an archive, or none. @throws those of loadImages */
  load(stream: AsyncIterable<Uint8Array>, options?: LoadOptions): Promise<StoredImage[]>;
}

/** Touches nothing yet: a store that was never written to is empty. */
export function openImageStore(directory: string): ImageStore {
  const layout = layOut(resolve(directory));
  return {
    layout,
    add: async (request) => await addImage(layout, request),
    list: async () => await listImages(layout),
    resolve: async (reference) => await findImage(layout, reference),
    tag: async (reference, newReference) => await tagImage(layout, reference, newReference),
    remove: async (reference, options) =>
      await removeImages(layout, [reference].flat(), options?.force === true),
    collectGarbage: async () => await collectGarbage(layout),
    save: async (references, options) => await planSave(layout, references, options),
    load: async (stream, options) => await loadImages(layout, stream, options),
  };
}

async function addImage(layout: StoreLayout, request: AddRequest): Promise<StoredImage> {
  const { eifPath, info, provenance, signal, onProgress } = request;
  const tags = request.tags.map(parseTag);
  if (provenance !== undefined && provenance.length > MAX_PROVENANCE_BYTES)
    throw new RangeError(`provenance has more than ${MAX_PROVENANCE_BYTES} bytes`);
  await using work = await openWorkFolder(layout);
  const folder = work.path("image");
  await storeStep(folder, async () => await mkdir(folder, { mode: 0o700 }));
  const mayShare = request.move === true;
  const limits = { mayShare, maxBytes: MAX_IMAGE_BYTES, signal, onProgress };
  const taken = await takeFile(eifPath, join(folder, EIF_FILE), limits);
  if (taken.digest !== info.digest || taken.sizeBytes !== info.sizeBytes)
    throw wrongContent(eifPath, taken, info);
  await describeFolder(folder, pickDescription(info), provenance);
  signal?.throwIfAborted();
  const [stored] = await publish(layout, work, [{ digest: info.digest, folder, tags }]);
  if (stored === undefined)
    throw damaged(layout.image(info.digest), "it vanished while the store was locked");
  if (mayShare) await rm(eifPath, { force: true });
  return stored;
}

interface Content {
  readonly digest: string;
  readonly sizeBytes: number;
}

function wrongContent(path: string, found: Content, wanted: Content): KitError {
  const describe = ({ digest, sizeBytes }: Content): string =>
    `${renderDigest(digest)} of ${sizeBytes} bytes`;
  return new KitError("E_STORE_DIGEST", `${path} is ${describe(found)} instead of ${describe(wanted)}`);
}

async function listImages(layout: StoreLayout): Promise<StoreListing> {
  return await storeStep(layout.directory, async () => {
    const damaged: KitError[] = [];
    const onDamaged = (error: KitError): void => void damaged.push(error);
    const tags = await readTags(layout, onDamaged);
    const images: StoredImage[] = [];
    for (const digest of await listDigests(layout)) {
      const image = await orDamaged(async () => await readImageFolder(layout, digest), onDamaged);
      if (image !== undefined) images.push({ ...image, tags: (tags.get(digest) ?? []).map(renderTag) });
    }
    return { images, damaged };
  });
}

async function findImage(layout: StoreLayout, reference: string): Promise<StoredImage> {
  const { image } = await resolveImage(layout, reference);
  return await storeStep(layout.directory, async () => await withTags(layout, image));
}

async function tagImage(layout: StoreLayout, reference: string, newReference: string): Promise<StoredImage> {
  const tag = parseTag(newReference);
  await using work = await openWorkFolder(layout);
  {
    await using _lock = await lockStore(layout);
    const { image } = await resolveImage(layout, reference);
    await storeStep(
      layout.directory,
      async () => await writeTag(layout, work, { tag, digest: image.digest }),
    );
  }
  return await findImage(layout, newReference);
}
