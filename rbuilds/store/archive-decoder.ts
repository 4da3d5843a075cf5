/**
 * The JSON of an archive of images, decoded strictly: a person hands it over. Every key is known and every descriptor
 * agrees with the blob that it names; only annotations other than ours are passed over.
 */
import { KitError } from "../../core/errors.ts";
import { StrictObject } from "../../wire/strict-object.ts";
import {
  EIF_TYPE,
  EMPTY_BLOB,
  EMPTY_TYPE,
  INDEX_TYPE,
  INFO_TYPE,
  type ImageLayers,
  type Layer,
  LAYOUT_VERSION,
  layerOf,
  MANIFEST_TYPE,
  MAX_ARCHIVE_IMAGES,
  MAX_ARCHIVE_TAGS,
  PROVENANCE_TYPE,
  REF_NAME,
} from "./archive-format.ts";
import { type ImageTag, parseDigest, parseTag, renderTag } from "./image-reference.ts";
import { quote } from "./store-refusals.ts";

const DESCRIPTOR_KEYS = ["mediaType", "artifactType", "digest", "size", "annotations"];
const MANIFEST_KEYS = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "annotations"];
const INDEX_KEYS = ["schemaVersion", "mediaType", "manifests", "annotations"];
const MAX_TEXT = 256;
const MAX_LAYERS = 3;

export interface IndexedImage {
  readonly manifest: Layer;
  readonly tags: readonly ImageTag[];
}

export function refuseArchive(why: string, cause?: unknown): KitError {
  return new KitError("E_STORE_ARCHIVE", `the archive: ${why}`, { cause });
}

/** @throws E_STORE_ARCHIVE */
export function decodeLayout(bytes: Uint8Array): void {
  const layout = new StrictObject(
    parseJson(bytes, "oci-layout"),
    "oci-layout",
    ["imageLayoutVersion"],
    refuseArchive,
  );
  layout.word("imageLayoutVersion", [LAYOUT_VERSION]);
}

/** Images by their manifest, in the order of the index. @throws E_STORE_ARCHIVE */
export function decodeIndex(bytes: Uint8Array): IndexedImage[] {
  const index = new StrictObject(parseJson(bytes, "index.json"), "index.json", INDEX_KEYS, refuseArchive);
  index.integer("schemaVersion", { minimum: 2, maximum: 2 });
  if (index.has("mediaType")) index.word("mediaType", [INDEX_TYPE]);
  const images = new Map<string, { manifest: Layer; tags: ImageTag[] }>();
  const seen = new Set<string>();
  for (const { layer, tag } of index.list("manifests", MAX_ARCHIVE_TAGS, readIndexed)) {
    const known = images.get(layer.digest) ?? { manifest: layer, tags: [] };
    if (known.manifest.size !== layer.size) throw refuseArchive("two sizes of one manifest");
    images.set(layer.digest, known);
    if (tag === undefined) continue;
    if (seen.has(renderTag(tag))) throw refuseArchive(`the tag ${renderTag(tag)} is there twice`);
    seen.add(renderTag(tag));
    known.tags.push(tag);
  }
  if (images.size === 0) throw refuseArchive("it has no image");
  if (images.size > MAX_ARCHIVE_IMAGES) throw refuseArchive(`it has more than ${MAX_ARCHIVE_IMAGES} images`);
  return [...images.values()];
}

function readIndexed(value: unknown, place: string): { layer: Layer; tag: ImageTag | undefined } {
  const { layer, descriptor } = readDescriptor(value, place, MANIFEST_TYPE);
  if (descriptor.has("artifactType")) descriptor.word("artifactType", [EIF_TYPE]);
  const name = readAnnotations(descriptor.raw("annotations"), place).get(REF_NAME);
  return { layer, tag: name === undefined ? undefined : readTagName(name, place) };
}

function readTagName(name: string, place: string): ImageTag {
  try {
    return parseTag(name);
  } catch (error) {
    throw refuseArchive(`${place}: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

/** @throws E_STORE_ARCHIVE */
export function decodeManifest(bytes: Uint8Array, place: string): ImageLayers {
  const manifest = new StrictObject(parseJson(bytes, place), place, MANIFEST_KEYS, refuseArchive);
  manifest.integer("schemaVersion", { minimum: 2, maximum: 2 });
  if (manifest.has("mediaType")) manifest.word("mediaType", [MANIFEST_TYPE]);
  manifest.word("artifactType", [EIF_TYPE]);
  const config = readDescriptor(manifest.raw("config"), `${place}.config`, EMPTY_TYPE).layer;
  const empty = layerOf(EMPTY_BLOB);
  if (config.digest !== empty.digest || config.size !== empty.size)
    throw refuseArchive(`${place}: the configuration is not the empty one`);
  const types = [EIF_TYPE, INFO_TYPE, PROVENANCE_TYPE];
  let next = 0;
  const [eif, info, provenance] = manifest.list("layers", MAX_LAYERS, (value, at) => {
    next += 1;
    return readDescriptor(value, at, types[next - 1] ?? "").layer;
  });
  if (eif === undefined || info === undefined)
    throw refuseArchive(`${place}: it has no image or no info.json`);
  return { eif, info, provenance };
}

interface ReadDescriptor {
  readonly layer: Layer;
  readonly descriptor: StrictObject;
}

function readDescriptor(value: unknown, place: string, mediaType: string): ReadDescriptor {
  const descriptor = new StrictObject(value, place, DESCRIPTOR_KEYS, refuseArchive);
  descriptor.word("mediaType", [mediaType]);
  const digest = parseDigest(descriptor.text("digest", { maximum: MAX_TEXT }));
  if (digest === undefined) throw refuseArchive(`${place}.digest: must be a SHA-256`);
  const size = descriptor.integer("size", { minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
  readAnnotations(descriptor.raw("annotations"), place);
  return { layer: { digest, size }, descriptor };
}

function readAnnotations(value: unknown, place: string): ReadonlyMap<string, string> {
  if (value === undefined) return new Map();
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refuseArchive(`${place}.annotations: must be an object`);
  const annotations = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw refuseArchive(`${place}.annotations: ${quote(key)} is no text`);
    annotations.set(key, text);
  }
  return annotations;
}

function parseJson(bytes: Uint8Array, place: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw refuseArchive(`${place} is not JSON`, error);
  }
}
