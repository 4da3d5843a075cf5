/**
 * Enclave images in one file: an uncompressed tar of an OCI image layout, so that OCI tools can carry it.
 *
 *   oci-layout             {"imageLayoutVersion":"1.0.0"}
 *   index.json             a descriptor for each tag of each image; one without a name for an image without tags
 *   blobs/sha256/DIGEST    manifests, `{}` (the empty configuration), and of each image its layers, in this order:
 *                          the EIF, info.json (image-info.ts, without what only a store can say), provenance.json or not
 *
 * Written in this order, blobs sorted, all owned by 0:0 and of time 0, so that the same images have the same bytes. Read
 * in any order, also with the directories and with `./`, as tar writes an unpacked layout.
 * Source: OCI image specification 1.1 (image-layout.md, image-index.md, manifest.md: "Guidelines for Artifact Usage").
 */
import { createHash } from "node:crypto";

import { canonicalJson } from "../canonical-json.ts";
import { EIF_FILE, INFO_FILE, PROVENANCE_FILE } from "./store-layout.ts";

export const EIF_TYPE = "application/vnd.aws.nitro-enclave.eif.v1";
export const INFO_TYPE = "application/vnd.enclave-toolkit.image-info.v1+json";
export const PROVENANCE_TYPE = "application/vnd.in-toto+json";
export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
export const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";
export const EMPTY_TYPE = "application/vnd.oci.empty.v1+json";
const TITLE = "org.opencontainers.image.title";
export const REF_NAME = "org.opencontainers.image.ref.name";

export const LAYOUT_NAME = "oci-layout";
export const INDEX_NAME = "index.json";
export const BLOBS_FOLDER = "blobs/sha256";
export const LAYOUT_VERSION = "1.0.0";
export const EMPTY_BLOB = Buffer.from("{}");

export const MAX_ARCHIVE_IMAGES = 256;
export const MAX_ARCHIVE_TAGS = 4096;
export const MAX_JSON_BYTES = 4 * 1024 * 1024;

export interface Descriptor {
  readonly mediaType: string;
  /** `sha256:HEX` */
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Layer {
  /** 64 hex digits. */
  readonly digest: string;
  readonly size: number;
}

export interface ImageLayers {
  readonly eif: Layer;
  readonly info: Layer;
  readonly provenance: Layer | undefined;
}

export function encodeLayout(): Buffer {
  return toBytes({ imageLayoutVersion: LAYOUT_VERSION });
}

export function encodeManifest({ eif, info, provenance }: ImageLayers): Buffer {
  const layers = [describe(eif, EIF_TYPE, EIF_FILE), describe(info, INFO_TYPE, INFO_FILE)];
  if (provenance !== undefined) layers.push(describe(provenance, PROVENANCE_TYPE, PROVENANCE_FILE));
  return toBytes({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    artifactType: EIF_TYPE,
    config: toDescriptor(layerOf(EMPTY_BLOB), EMPTY_TYPE),
    layers,
  });
}

/** @param tags `NAME:TAG`, or undefined for an image without. */
export function encodeIndex(
  images: readonly { readonly manifest: Layer; readonly tag: string | undefined }[],
): Buffer {
  const manifests = images.map(({ manifest, tag }) => ({
    ...toDescriptor(manifest, MANIFEST_TYPE),
    artifactType: EIF_TYPE,
    ...(tag === undefined ? {} : { annotations: { [REF_NAME]: tag } }),
  }));
  return toBytes({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests });
}

export function layerOf(bytes: Uint8Array): Layer {
  return { digest: createHash("sha256").update(bytes).digest("hex"), size: bytes.length };
}

function toBytes(value: unknown): Buffer {
  return Buffer.from(canonicalJson(value));
}

function toDescriptor({ digest, size }: Layer, mediaType: string): Descriptor {
  return { mediaType, digest: `sha256:${digest}`, size };
}

function describe(layer: Layer, mediaType: string, title: string): Descriptor {
  return { ...toDescriptor(layer, mediaType), annotations: { [TITLE]: title } };
}
