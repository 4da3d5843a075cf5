/**
 * The metadata section: compact JSON, keys in AWS's order, all five always there. Nothing measures it.
 *
 *   {"ImageName":"…","ImageVersion":"…","BuildMetadata":{"BuildTime":"…","BuildTool":"…","BuildToolVersion":"…",
 *    "OperatingSystem":"…","KernelVersion":"…"},"DockerInfo":null,"CustomMetadata":null}
 */
import { KitError } from "../../core/errors.ts";
import { StrictObject } from "../strict-object.ts";

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
  readonly customMetadata: unknown;
}

/** Of objects and lists within one another: whoever prints them does so by recursion. */
const MAX_DEPTH = 64;

/** @throws E_EIF_METADATA for what could not be read again */
export function encodeEifMetadata(metadata: EifMetadata): Buffer {
  const { imageName, imageVersion, buildMetadata, dockerInfo, customMetadata } = metadata;
  const value = {
    ImageName: imageName,
    ImageVersion: imageVersion,
    BuildMetadata: {
      BuildTime: buildMetadata.buildTime,
      BuildTool: buildMetadata.buildTool,
      BuildToolVersion: buildMetadata.buildToolVersion,
      OperatingSystem: buildMetadata.operatingSystem,
      KernelVersion: buildMetadata.kernelVersion,
    },
    DockerInfo: dockerInfo ?? null,
    CustomMetadata: customMetadata ?? null,
  };
  const bytes = Buffer.from(JSON.stringify(value));
  decodeEifMetadata(bytes);
  return bytes;
}

/** @throws E_EIF_METADATA */
export function decodeEifMetadata(bytes: Uint8Array): EifMetadata {
  const refuse = (why: string): KitError => new KitError("E_EIF_METADATA", `the image's ${why}`);
  const keys = ["ImageName", "ImageVersion", "BuildMetadata", "DockerInfo", "CustomMetadata"];
  const value = parseJson(bytes, refuse);
  if (!isShallow(value)) throw refuse(`metadata: is deeper than ${MAX_DEPTH}`);
  const object = new StrictObject(value, "metadata", keys, refuse);
  for (const key of ["DockerInfo", "CustomMetadata"])
    if (!object.has(key)) throw refuse(`metadata.${key}: is missing`);
  const inner = ["BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion"];
  const build = object.object("BuildMetadata", inner);
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

function parseJson(bytes: Uint8Array, refuse: (why: string) => KitError): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw refuse("metadata: is not JSON");
  }
}

/** Level by level, so that no depth can exhaust the stack. */
function isShallow(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return false;
    level = level.flatMap((each): unknown[] =>
      typeof each === "object" && each !== null ? Object.values(each) : [],
    );
  }
  return true;
}
