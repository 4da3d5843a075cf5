/** Archives of images written by hand, not with our encoder. */
import { randomBytes } from "node:crypto";

import { type RawMember, rawTar } from "./rootfs-testbed.ts";
import { describeBytes, sha256 } from "./store-bed.ts";

const EIF = "application/vnd.aws.nitro-enclave.eif.v1";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

export type Json = Record<string, unknown>;
export const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value, undefined, 1));

export const blobMember = (bytes: Uint8Array): RawMember => ({
  name: `blobs/sha256/${sha256(bytes)}`,
  content: bytes,
});

export const descriptor = (bytes: Uint8Array, mediaType: string, more: Json = {}): Json => ({
  mediaType,
  digest: `sha256:${sha256(bytes)}`,
  size: bytes.length,
  ...more,
});

export interface HandmadeImage {
  readonly eif?: Uint8Array;
  readonly provenance?: Uint8Array;
  readonly tags?: readonly string[];
  /** Changes of the description. */
  readonly info?: Json;
  readonly manifest?: (manifest: Json) => Json;
}

export interface HandmadeArchive {
  readonly index?: (index: { schemaVersion: number; manifests: Json[] }) => unknown;
  readonly layout?: unknown;
  readonly members?: (members: RawMember[]) => RawMember[];
}

function makeManifest(image: HandmadeImage, blobs: Uint8Array[]): Buffer {
  const eif = image.eif ?? randomBytes(2000);
  const info = json({ ...describeBytes(eif), ...image.info });
  const parts = [eif, info, ...(image.provenance === undefined ? [] : [image.provenance])];
  const types = [EIF, "application/vnd.enclave-toolkit.image-info.v1+json", "application/vnd.in-toto+json"];
  const empty = Buffer.from("{}");
  const manifest = {
    schemaVersion: 2,
    mediaType: MANIFEST,
    artifactType: EIF,
    config: descriptor(empty, "application/vnd.oci.empty.v1+json"),
    layers: parts.map((part, index) => descriptor(part, types[index] ?? "")),
  };
  const bytes = json(image.manifest?.(manifest) ?? manifest);
  blobs.push(empty, ...parts, bytes);
  return bytes;
}

export function makeMembers(images: readonly HandmadeImage[], archive: HandmadeArchive = {}): RawMember[] {
  const blobs: Uint8Array[] = [];
  const manifests = images.flatMap((image) => {
    const bytes = makeManifest(image, blobs);
    const names = image.tags ?? ["made:1"];
    const annotations = names.map((name) => ({ annotations: { "org.opencontainers.image.ref.name": name } }));
    return (names.length === 0 ? [{}] : annotations).map((more) => descriptor(bytes, MANIFEST, more));
  });
  const index = { schemaVersion: 2, manifests };
  const unique = new Map(blobs.map((bytes) => [sha256(bytes), blobMember(bytes)]));
  const members = [
    { name: "oci-layout", content: json(archive.layout ?? { imageLayoutVersion: "1.0.0" }) },
    { name: "index.json", content: json(archive.index === undefined ? index : archive.index(index)) },
    ...unique.values(),
  ];
  return archive.members?.(members) ?? members;
}

export function makeArchive(images: readonly HandmadeImage[], archive: HandmadeArchive = {}): Buffer {
  return rawTar(makeMembers(images, archive));
}
