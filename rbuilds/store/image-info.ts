/**
 * What the store knows of an image without reading it: info.json, at most 64 KiB, strict. In an archive it lies without
 * what only the store can say (when it was stored, and what lies beside it), so that an image saved anywhere has the
 * same bytes.
 */
import { StrictObject } from "../../wire/strict-object.ts";
import { canonicalJson } from "../canonical-json.ts";
import { damaged } from "./store-refusals.ts";

export const MAX_INFO_BYTES = 64 * 1024;
export const MAX_PROVENANCE_BYTES = 16 * 1024 * 1024;
/** More memory than an enclave has. */
export const MAX_IMAGE_BYTES = 64 * 1024 ** 3;

/** What whoever made the image says of it. */
export interface ImageDescription {
  /** SHA-256 of the file, 64 lower-case hex digits. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** `PCR0` to the 96 lower-case hex digits of its SHA-384. */
  readonly pcrs: Readonly<Record<string, string>>;
  /** Of the enclave. */
  readonly name: string;
  readonly mode: "development" | "production";
  readonly architecture: string;
  readonly kernelVersion: string | null;
  /** Subject of the certificate. */
  readonly signedBy: string | null;
}

export interface ImageInfo extends ImageDescription {
  /** When it came into this store, ISO 8601 in UTC. */
  readonly createdAt: string;
  readonly hasProvenance: boolean;
}

const DESCRIPTION_KEYS = ["digest", "sizeBytes", "pcrs", "name", "mode", "architecture", "kernelVersion", "signedBy"]; // prettier-ignore
const INFO_KEYS = [...DESCRIPTION_KEYS, "createdAt", "hasProvenance"];
const PCR_NAMES = Array.from({ length: 32 }, (_, index) => `PCR${index}`);
const DIGEST = /^[0-9a-f]{64}$/;
const PCR = /^[0-9a-f]{96}$/;
const NAME = /^[\x21-\x7e]{1,128}$/;
const WORD = /^[a-z0-9_]{1,32}$/;
const LINE = /^[^\p{Cc}]{1,512}$/u;

/** Makes the error from what is wrong. */
type Refusal = (why: string, cause?: unknown) => Error;

/** @param place names the file in refusals. @throws E_STORE_DAMAGED */
export function decodeInfo(bytes: Uint8Array, place: string): ImageInfo {
  const refuse: Refusal = (why, cause) => damaged(place, why, cause);
  const reader = openObject(bytes, INFO_KEYS, refuse);
  const createdAt = reader.text("createdAt", { maximum: 32 });
  if (!isTime(createdAt)) throw refuse("createdAt is no time");
  return { ...readDescription(reader), createdAt, hasProvenance: reader.boolean("hasProvenance") };
}

/** @throws what `refuse` makes */
export function decodeDescription(bytes: Uint8Array, refuse: Refusal): ImageDescription {
  return readDescription(openObject(bytes, DESCRIPTION_KEYS, refuse));
}

/** @throws TypeError for what the decoder would refuse: it must not be found out only when the image is looked at. */
export function encodeInfo(info: ImageInfo): Buffer {
  encodeDescription(info);
  return toBytes({ ...pickDescription(info), createdAt: info.createdAt, hasProvenance: info.hasProvenance });
}

/** The same bytes for the same image, wherever and whenever it was stored. @throws TypeError as encodeInfo */
export function encodeDescription(info: ImageDescription): Buffer {
  const bytes = toBytes(pickDescription(info));
  decodeDescription(bytes, (why) => new TypeError(why));
  return bytes;
}

export function pickDescription(info: ImageDescription): ImageDescription {
  const { digest, sizeBytes, pcrs, name, mode, architecture, kernelVersion, signedBy } = info;
  return { digest, sizeBytes, pcrs, name, mode, architecture, kernelVersion, signedBy };
}

function toBytes(value: unknown): Buffer {
  return Buffer.from(`${canonicalJson(value)}\n`);
}

function openObject(bytes: Uint8Array, keys: readonly string[], refuse: Refusal): StrictObject {
  if (bytes.length > MAX_INFO_BYTES) throw refuse(`it has more than ${MAX_INFO_BYTES} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw refuse("it is not JSON", error);
  }
  return new StrictObject(value, "info", keys, refuse);
}

function readDescription(reader: StrictObject): ImageDescription {
  return {
    digest: reader.text("digest", { pattern: DIGEST }),
    sizeBytes: reader.integer("sizeBytes", { minimum: 0, maximum: MAX_IMAGE_BYTES }),
    pcrs: readPcrs(reader),
    name: reader.text("name", { pattern: NAME }),
    mode: reader.word("mode", ["development", "production"]),
    architecture: reader.text("architecture", { pattern: WORD }),
    kernelVersion:
      reader.raw("kernelVersion") === null ? null : reader.text("kernelVersion", { pattern: LINE }),
    signedBy: reader.raw("signedBy") === null ? null : reader.text("signedBy", { pattern: LINE }),
  };
}

function readPcrs(reader: StrictObject): Record<string, string> {
  const pcrs = reader.object("pcrs", PCR_NAMES);
  const present = PCR_NAMES.filter((name) => pcrs.has(name));
  return Object.fromEntries(present.map((name) => [name, pcrs.text(name, { pattern: PCR })]));
}

/** As toISOString writes it, and no other way. */
function isTime(text: string): boolean {
  const date = new Date(text);
  return !Number.isNaN(date.getTime()) && date.toISOString() === text;
}
