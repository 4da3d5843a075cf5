/**
 * OCI images: a layout directory, a tar of one, or what `docker save` writes. Every blob is checked against its digest
 * and size before it counts, layers also against the diff_ids of the configuration.
 * Source: OCI image specification 1.1 (image-layout.md, image-index.md, manifest.md, config.md, layer.md).
 */
import { createHash } from "node:crypto";

import { KitError } from "../core/errors.ts";
import type { BlobStore } from "./blob-store.ts";
import { decompress } from "./decompress.ts";
import type { FileTree } from "./file-tree.ts";
import type { ImageDefaults } from "./image-facts.ts";
import { type BlobReference, type OciFiles, openOciFiles } from "./oci-files.ts";
import {
  type ImageConfig,
  type ImageManifest,
  parseConfig,
  type Platform,
  selectImage,
} from "./oci-manifest.ts";
import { applyTarLayer, DEFAULT_LAYER_LIMITS } from "./tar-layer.ts";

const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

export interface OciImportOptions {
  readonly tree: FileTree;
  readonly blobs: BlobStore;
  readonly platform: Platform;
  readonly signal?: AbortSignal | undefined;
}

/**
 * What names the content of the image at `path`: digests of its configuration and of its layers, uncompressed.
 * @throws E_IMAGE_OCI, E_IMAGE_OCI_PLATFORM, E_IMAGE_OCI_DIGEST
 */
export async function describeOciImage(
  path: string,
  platform: Platform,
  signal?: AbortSignal,
): Promise<{ readonly config: string; readonly layers: readonly string[] }> {
  await using files = await openOciFiles(path, signal);
  const image = await selectImage(files, platform, path);
  const bytes = await readConfig(files, image, path);
  const config = parseConfig(bytes, path);
  checkPlatform(config, platform, path);
  return { config: `sha256:${createHash("sha256").update(bytes).digest("hex")}`, layers: config.diffIds };
}

/**
 * Applies the layers of the image at `path` to the tree.
 * @returns what the image says about the program to run.
 * @throws E_IMAGE_OCI (not an image, or damaged), E_IMAGE_OCI_PLATFORM, E_IMAGE_OCI_DIGEST, and those of applyTarLayer.
 */
export async function importOciImage(path: string, options: OciImportOptions): Promise<ImageDefaults> {
  await using files = await openOciFiles(path, options.signal);
  const image = await selectImage(files, options.platform, path);
  const config = parseConfig(await readConfig(files, image, path), path);
  checkPlatform(config, options.platform, path);
  if (config.diffIds.length !== image.layers.length) {
    throw new KitError(
      "E_IMAGE_OCI",
      `${path}: ${image.layers.length} layers but ${config.diffIds.length} diff_ids`,
    );
  }
  for (const [index, layer] of image.layers.entries()) {
    await applyLayer(files, { layer, diffId: config.diffIds[index] ?? "", path }, options);
  }
  return config.defaults;
}

/** `docker save` and many layouts name the platform only here. */
function checkPlatform({ os, architecture }: ImageConfig, platform: Platform, path: string): void {
  const isRight =
    (os ?? platform.os) === platform.os && (architecture ?? platform.architecture) === platform.architecture;
  if (isRight) return;
  const built = `${os ?? "?"}/${architecture ?? "?"}`;
  const message = `${path} is an image for ${built}, not for ${platform.os}/${platform.architecture}`;
  throw new KitError("E_IMAGE_OCI_PLATFORM", message);
}

async function readConfig(files: OciFiles, image: ImageManifest, path: string): Promise<Buffer> {
  if (image.config.size !== undefined && image.config.size > MAX_CONFIG_BYTES) {
    throw new KitError("E_IMAGE_OCI", `${path}: the configuration has ${image.config.size} bytes`);
  }
  return await files.readBlob(image.config, MAX_CONFIG_BYTES);
}

async function applyLayer(
  files: OciFiles,
  { layer, diffId, path }: { readonly layer: BlobReference; readonly diffId: string; readonly path: string },
  options: OciImportOptions,
): Promise<void> {
  const source = `${path}: layer ${layer.name}`;
  const { maxBytes } = DEFAULT_LAYER_LIMITS;
  const plain = decompress(files.streamBlob(layer), { maxBytes, source });
  const hash = createHash("sha256");
  await applyTarLayer(hashed(plain, hash), {
    ...options,
    whiteouts: true,
    limits: DEFAULT_LAYER_LIMITS,
    source,
  });
  const digest = `sha256:${hash.digest("hex")}`;
  if (digest !== diffId) {
    throw new KitError(
      "E_IMAGE_OCI_DIGEST",
      `${source}: its content is ${digest}, the configuration says ${diffId}`,
    );
  }
}

async function* hashed(
  stream: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof createHash>,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    hash.update(chunk);
    yield chunk;
  }
}
