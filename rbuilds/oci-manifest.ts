/** From index.json (or docker's manifest.json) to the manifest and configuration of one platform. */
import { KitError } from "../core/errors.ts";
import type { ImageDefaults } from "./image-facts.ts";
import { JsonReader } from "./json-reader.ts";
import type { BlobReference, OciFiles } from "./oci-files.ts";

const MAX_JSON_BYTES = 4 * 1024 * 1024;
const MAX_INDEX_DEPTH = 4;
const MAX_LAYERS = 500;
const INDEX_TYPES = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
];

export interface Platform {
  readonly os: "linux";
  /** OCI's word: amd64 or arm64. */
  readonly architecture: "amd64" | "arm64";
}

export interface ImageManifest {
  readonly config: BlobReference;
  readonly layers: readonly BlobReference[];
}

export interface ImageConfig {
  readonly defaults: ImageDefaults;
  /** What it was built for, where it says so. */
  readonly os: string | undefined;
  readonly architecture: string | undefined;
  readonly diffIds: readonly string[];
}

/** @throws E_IMAGE_OCI, E_IMAGE_OCI_PLATFORM, E_IMAGE_OCI_DIGEST */
export async function selectImage(files: OciFiles, platform: Platform, path: string): Promise<ImageManifest> {
  const index = await files.readFile("index.json", MAX_JSON_BYTES);
  if (index !== undefined)
    return await fromIndex(files, JsonReader.parse(index, `${path}: index.json`), {
      platform,
      path,
      depth: 0,
    });
  const docker = await files.readFile("manifest.json", MAX_JSON_BYTES);
  if (docker !== undefined) return fromDockerSave(JsonReader.parse(docker, `${path}: manifest.json`), path);
  throw new KitError("E_IMAGE_OCI", `${path} is no OCI image: it has neither index.json nor manifest.json`);
}

interface Search {
  readonly platform: Platform;
  readonly path: string;
  readonly depth: number;
}

async function fromIndex(files: OciFiles, index: JsonReader, search: Search): Promise<ImageManifest> {
  if (search.depth > MAX_INDEX_DEPTH)
    throw new KitError("E_IMAGE_OCI", `${search.path}: indexes are nested too deeply`);
  const descriptors = index.get("manifests").items(1000);
  const chosen = chooseDescriptor(descriptors, search);
  const reference = toReference(chosen);
  const json = JsonReader.parse(
    await files.readBlob(reference, MAX_JSON_BYTES),
    `${search.path}: ${reference.name}`,
  );
  const isIndex = INDEX_TYPES.includes(chosen.get("mediaType").textOr("")) || json.has("manifests");
  if (isIndex) return await fromIndex(files, json, { ...search, depth: search.depth + 1 });
  return {
    config: toReference(json.get("config")),
    layers: json.get("layers").items(MAX_LAYERS).map(toReference),
  };
}

/** An entry that names our platform goes before one that names none, one of the basic variant before others. */
function chooseDescriptor(descriptors: readonly JsonReader[], search: Search): JsonReader {
  const matching = descriptors.filter((descriptor) => matchesPlatform(descriptor, search.platform));
  const named = preferred(matching, (descriptor) => descriptor.has("platform"));
  const basic = preferred(named, (descriptor) =>
    ["", "v1", "v8"].includes(descriptor.get("platform").get("variant").textOr("")),
  );
  const [chosen] = basic;
  if (chosen === undefined) throw noPlatform(descriptors, search);
  // Tags of one image may repeat it; two images leave open which one is meant.
  const images = new Set(basic.map((descriptor) => descriptor.get("digest").text()));
  if (images.size > 1) throw tooManyImages(search.path, images.size);
  return chosen;
}

function preferred<T>(items: readonly T[], isBetter: (item: T) => boolean): readonly T[] {
  const better = items.filter(isBetter);
  return better.length > 0 ? better : items;
}

function tooManyImages(path: string, count: number): KitError {
  return new KitError("E_IMAGE_OCI", `${path} holds ${count} images`, {
    hint: "Save one image into the archive or layout.",
  });
}

function matchesPlatform(descriptor: JsonReader, platform: Platform): boolean {
  if (!descriptor.has("platform")) return true;
  const found = descriptor.get("platform");
  return (
    found.get("os").textOr("") === platform.os &&
    found.get("architecture").textOr("") === platform.architecture
  );
}

function noPlatform(descriptors: readonly JsonReader[], search: Search): KitError {
  const found = descriptors.map(
    (one) =>
      `${one.get("platform").get("os").textOr("?")}/${one.get("platform").get("architecture").textOr("?")}`,
  );
  const wanted = `${search.platform.os}/${search.platform.architecture}`;
  return new KitError(
    "E_IMAGE_OCI_PLATFORM",
    `${search.path} has no image for ${wanted}; it has ${found.join(", ") || "none"}`,
  );
}

/** @throws E_IMAGE_OCI unless it names content by SHA-256. */
function toReference(descriptor: JsonReader): BlobReference {
  const digest = descriptor.get("digest").text();
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw descriptor.get("digest").refuse("is no SHA-256 digest");
  return { name: `blobs/sha256/${digest.slice(7)}`, digest, size: descriptor.get("size").integer() };
}

/** `docker save`: a list of images with paths; the first is taken, and there must be no other. */
function fromDockerSave(list: JsonReader, path: string): ImageManifest {
  const images = list.items(1000);
  const [image] = images;
  if (image === undefined || images.length !== 1) {
    throw tooManyImages(path, images.length);
  }
  const toFile = (value: JsonReader): BlobReference => {
    const name = value.text();
    if (name.startsWith("/") || name.split("/").includes(".."))
      throw value.refuse("leads outside of the archive");
    const digest = /^(?:blobs\/sha256\/)?([0-9a-f]{64})(?:\.json)?$/.exec(name)?.[1];
    return { name, digest: digest === undefined ? undefined : `sha256:${digest}`, size: undefined };
  };
  return { config: toFile(image.get("Config")), layers: image.get("Layers").items(MAX_LAYERS).map(toFile) };
}

/** @throws E_IMAGE_OCI */
export function parseConfig(bytes: Buffer, path: string): ImageConfig {
  const json = JsonReader.parse(bytes, `${path}: configuration`);
  const config = json.get("config");
  return {
    os: json.get("os").textOr("") || undefined,
    architecture: json.get("architecture").textOr("") || undefined,
    diffIds: json
      .get("rootfs")
      .get("diff_ids")
      .items(MAX_LAYERS)
      .map((id) => id.text()),
    defaults: {
      entrypoint: config
        .get("Entrypoint")
        .itemsOr(1000)
        .map((word) => word.text()),
      cmd: config
        .get("Cmd")
        .itemsOr(1000)
        .map((word) => word.text()),
      env: Object.fromEntries(config.get("Env").itemsOr(10_000).map(toVariable)),
      workingDir: config.get("WorkingDir").textOr("") || undefined,
      user: config.get("User").textOr("") || undefined,
    },
  };
}

function toVariable(item: JsonReader): [string, string] {
  const text = item.text();
  const equals = text.indexOf("=");
  if (equals < 1 || text.includes("\0")) throw item.refuse("is not NAME=VALUE");
  return [text.slice(0, equals), text.slice(equals + 1)];
}
