/**
 * The metadata section: compact JSON, keys in AWS's order, all five always there; further keys, and any order of
 * them, are read as AWS's tool reads them. Nothing measures it.
 *
 *   {"ImageName":"…","ImageVersion":"…","BuildMetadata":{"BuildTime":"…","BuildTool":"…","BuildToolVersion":"…",
 *    "OperatingSystem":"…","KernelVersion":"…"},"DockerInfo":null,"CustomMetadata":null}
 */
import { StrictObject } from "../strict-object.ts";
import {
  parseBoundedJson,
  refuseMetadata,
  writeObject,
  writeSortedJson,
  writeText,
} from "./metadata-json.ts";

export interface EifMetadata {
  readonly imageName: string;
  readonly imageVersion: string;
  readonly buildMetadata: {
    /** RFC 3339. */
    readonly buildTime: string;
    readonly buildTool: string;
    readonly buildToolVersion: string;
    readonly operatingSystem: string;
    readonly kernelVersion: string;
  };
  /** Any JSON. */
  readonly dockerInfo: unknown;
  /** Written only if it is an object or null, because nitro-cli cannot describe images with anything else. */
  readonly customMetadata: unknown;
}

const KEYS = ["ImageName", "ImageVersion", "BuildMetadata", "DockerInfo", "CustomMetadata"];
const BUILD_KEYS = ["BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion"];

/** @throws E_EIF_METADATA for what could not be read again, here or by nitro-cli */
export function encodeEifMetadata(metadata: EifMetadata): Buffer {
  const { imageName, imageVersion, buildMetadata: build, dockerInfo, customMetadata } = metadata;
  if (Array.isArray(customMetadata) || typeof (customMetadata ?? {}) !== "object")
    throw refuseMetadata("metadata.CustomMetadata: must be an object or null");
  const buildTexts = [
    ["BuildTime", build.buildTime],
    ["BuildTool", build.buildTool],
    ["BuildToolVersion", build.buildToolVersion],
    ["OperatingSystem", build.operatingSystem],
    ["KernelVersion", build.kernelVersion],
  ] as const;
  const parts = [
    ["ImageName", writeText(imageName)],
    ["ImageVersion", writeText(imageVersion)],
    ["BuildMetadata", writeObject(buildTexts, writeText)],
    ["DockerInfo", writeSortedJson(dockerInfo ?? null)],
    ["CustomMetadata", writeSortedJson(customMetadata ?? null)],
  ] as const;
  const bytes = Buffer.from(writeObject(parts, (json) => json));
  decodeEifMetadata(bytes);
  return bytes;
}

/** @throws E_EIF_METADATA */
export function decodeEifMetadata(bytes: Uint8Array): EifMetadata {
  const object = new StrictObject(pick(parseBoundedJson(bytes), KEYS), "metadata", KEYS, refuseMetadata);
  for (const key of ["DockerInfo", "CustomMetadata"])
    if (!object.has(key)) throw refuseMetadata(`metadata.${key}: is missing`);
  const inner = pick(object.raw("BuildMetadata"), BUILD_KEYS);
  const build = new StrictObject(inner, object.place("BuildMetadata"), BUILD_KEYS, refuseMetadata);
  return {
    imageName: object.text("ImageName"),
    imageVersion: object.text("ImageVersion"),
    buildMetadata: {
      buildTime: build.text("BuildTime"),
      buildTool: build.text("BuildTool"),
      buildToolVersion: build.text("BuildToolVersion"),
      operatingSystem: build.text("OperatingSystem"),
      kernelVersion: build.text("KernelVersion"),
    },
    dockerInfo: object.raw("DockerInfo"),
    customMetadata: object.raw("CustomMetadata"),
  };
}

/** Leaves out what nobody asks for. */
function pick(value: unknown, keys: readonly string[]): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => keys.includes(key)));
}
