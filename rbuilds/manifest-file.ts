/** The manifest as bytes: canonical JSON, so that its digest names the image. Decoding is strict and bounded. */
import { createHash } from "node:crypto";

import { KitError } from "../core/errors.ts";
import type { Manifest, ManifestEntry } from "../wire/manifest.ts";
import { checkLinkTarget, checkPath, compareBytes, MAX_TREE_ENTRIES, parentOf } from "./file-tree.ts";

export const MAX_MANIFEST_BYTES = 512 * 1024 * 1024;
const MAX_ID = 0xff_ff_ff_fe;

/** One entry a line with keys in a fixed order: stable bytes, and diffs that can be read. */
export function encodeManifest(manifest: Manifest): Buffer {
  const lines = manifest.entries.map((entry) => JSON.stringify(canonicalEntry(entry)));
  return Buffer.from(`{"version":1,"entries":[\n${lines.join(",\n")}\n]}\n`);
}

/** SHA-256 of the encoded manifest, lower-case hex. */
export function manifestDigest(manifest: Manifest): string {
  return createHash("sha256").update(encodeManifest(manifest)).digest("hex");
}

/** @throws E_IMAGE_MANIFEST for anything that encodeManifest would not have written. */
export function decodeManifest(bytes: Uint8Array): Manifest {
  if (bytes.length > MAX_MANIFEST_BYTES) throw refusal(`it has ${bytes.length} bytes`);
  const value = parseObject(bytes);
  const list = value["entries"];
  if (value["version"] !== 1 || !Array.isArray(list) || Object.keys(value).length !== 2)
    throw refusal("its head");
  if (list.length > MAX_TREE_ENTRIES) throw refusal(`it has ${list.length} entries`);
  const entries = list.map((item: unknown, index) => decodeEntry(item, index));
  checkOrder(entries);
  return { version: 1, entries };
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch (error) {
    throw refusal("it is not JSON", error);
  }
  throw refusal("it is not an object");
}

/** Fixed key order, and no keys but those of the type. */
function canonicalEntry(entry: ManifestEntry): Record<string, unknown> {
  const { type, path, mode, uid, gid } = entry;
  const base = { type, path, mode, uid, gid, ...canonicalXattrs(entry.xattrs) };
  switch (entry.type) {
    case "directory":
    case "fifo":
      return base;
    case "file":
      return { ...base, digest: entry.digest, size: entry.size };
    case "symlink":
    case "hardlink":
      return { ...base, target: entry.target };
    case "character":
    case "block":
      return { ...base, major: entry.major, minor: entry.minor };
  }
}

function canonicalXattrs(xattrs: ManifestEntry["xattrs"]): { xattrs?: Record<string, string> } {
  if (xattrs === undefined || Object.keys(xattrs).length === 0) return {};
  return { xattrs: Object.fromEntries(Object.entries(xattrs).sort(([a], [b]) => compareBytes(a, b))) };
}

function decodeEntry(item: unknown, index: number): ManifestEntry {
  if (typeof item !== "object" || item === null || Array.isArray(item)) throw refusal(`entry ${index}`);
  const fields: Readonly<Record<string, unknown>> = { ...item };
  const entry = readEntry(fields, index);
  if (JSON.stringify(canonicalEntry(entry)) !== JSON.stringify(item))
    throw refusal(`entry ${index} has other keys`);
  return entry;
}

function readEntry(fields: Readonly<Record<string, unknown>>, index: number): ManifestEntry {
  const where = (key: string): KitError => refusal(`entry ${index}: ${key}`);
  const text = (key: string): string => {
    const value = fields[key];
    if (typeof value !== "string") throw where(key);
    return value;
  };
  const number = (key: string, maximum: number): number => {
    const value = fields[key];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > maximum)
      throw where(key);
    return value;
  };
  const path = text("path");
  checkPath(path);
  const xattrs = readXattrs(fields["xattrs"], where);
  const base = {
    path,
    mode: number("mode", 0o7777),
    uid: number("uid", MAX_ID),
    gid: number("gid", MAX_ID),
    ...xattrs,
  };
  const type = text("type");
  if (type === "directory" || type === "fifo") return { ...base, type };
  if (type === "character" || type === "block") {
    return { ...base, type, major: number("major", 0xfff), minor: number("minor", 0xf_ff_ff) };
  }
  if (type === "hardlink") return { ...base, type, target: text("target") };
  if (type === "symlink") {
    const target = text("target");
    checkLinkTarget({ path, target });
    return { ...base, type, target };
  }
  const digest = text("digest");
  if (type !== "file" || !/^[0-9a-f]{64}$/.test(digest)) throw where("type or digest");
  return { ...base, type, digest, size: number("size", Number.MAX_SAFE_INTEGER) };
}

function readXattrs(value: unknown, where: (key: string) => KitError): { xattrs?: Record<string, string> } {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw where("xattrs");
  const xattrs: Record<string, string> = {};
  for (const [name, content] of Object.entries(value)) {
    if (typeof content !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/.test(content)) throw where("xattrs");
    xattrs[name] = content;
  }
  return { xattrs };
}

/** The root first, sorted, no path twice, every parent a directory that is present, every hard link's target a file. */
function checkOrder(entries: readonly ManifestEntry[]): void {
  if (entries[0]?.path !== "/" || entries[0].type !== "directory") throw refusal("it has no root directory");
  const types = new Map<string, ManifestEntry["type"]>();
  let last = "";
  for (const { path, type } of entries) {
    if (last !== "" && compareBytes(last, path) >= 0) throw refusal(`${path} is out of order`);
    if (path !== "/" && types.get(parentOf(path)) !== "directory")
      throw refusal(`${path} has no parent directory`);
    types.set(path, type);
    last = path;
  }
  for (const entry of entries) {
    if (entry.type === "hardlink" && types.get(entry.target) !== "file")
      throw refusal(`${entry.path} links to no file`);
  }
}

function refusal(why: string, cause?: unknown): KitError {
  return new KitError("E_IMAGE_MANIFEST", `not a manifest: ${why}`, { cause });
}
