/**
 * enclave.lock, next to the enclave.yaml: every input of an image that is not a file of the project itself. JSON with
 * keys in a fixed order and one package a line, so that a change of it can be read.
 */
import { createHash } from "node:crypto";

import { KitError } from "../../core/errors.ts";
import { StrictObject } from "../../wire/strict-object.ts";
import { type DebianArchitecture, type LockedPackage, parseLockedPackages } from "../locked-package.ts";

export const LOCK_VERSION = 1;
/** Of the file. */
export const MAX_LOCK_BYTES = 8 * 1024 * 1024;

export type LockedBase =
  /** Names as the YAML has them, sorted; what they need is under `packages`. */
  | { readonly kind: "debian"; readonly names: readonly string[] }
  /** Digests of the image's configuration and layers, `sha256:<hex>`. */
  | { readonly kind: "oci"; readonly config: string; readonly layers: readonly string[] }
  /** A folder of the project: no input of others. */
  | { readonly kind: "directory" };

export type LockedKernel =
  /** Built from this source package. */
  | { readonly kind: "default"; readonly source: LockedPackage }
  /** SHA-256 by name of file. */
  | { readonly kind: "files"; readonly files: Readonly<Record<string, string>> };

export interface EnclaveLock {
  readonly architecture: DebianArchitecture;
  /** SHA-256 by name: Node, our bundles, the sources of our programs, the kernel's configuration. */
  readonly toolkit: Readonly<Record<string, string>>;
  readonly base: LockedBase;
  /** Of the root file system; sorted by name, as all lists of packages. */
  readonly packages: readonly LockedPackage[];
  readonly toolchain: readonly LockedPackage[];
  readonly kernel: LockedKernel;
}

/** The bytes of the file. */
export function encodeLock(lock: EnclaveLock): string {
  const lines = [
    `"version": ${LOCK_VERSION}`,
    `"architecture": ${JSON.stringify(lock.architecture)}`,
    `"toolkit": ${JSON.stringify(sorted(lock.toolkit), undefined, 2).replaceAll("\n", "\n  ")}`,
    `"base": ${JSON.stringify(lock.base)}`,
    `"packages": ${encodePackages(lock.packages)}`,
    `"toolchain": ${encodePackages(lock.toolchain)}`,
    `"kernel": ${JSON.stringify(lock.kernel)}`,
  ];
  return `{\n  ${lines.join(",\n  ")}\n}\n`;
}

/** SHA-256 of the file's bytes. */
export function lockDigest(lock: EnclaveLock): string {
  return createHash("sha256").update(encodeLock(lock)).digest("hex");
}

function sorted(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function encodePackages(packages: readonly LockedPackage[]): string {
  if (packages.length === 0) return "[]";
  return `[\n    ${packages.map((each) => JSON.stringify(each)).join(",\n    ")}\n  ]`;
}

const SHA256 = { pattern: /^[0-9a-f]{64}$/ };
const OCI_DIGEST = { pattern: /^sha256:[0-9a-f]{64}$/ };
const MAX_LAYERS = 1000;
const MAX_FILES = 1000;
const MAX_NAMES = 500;

/**
 * @param path names the file in messages
 * @throws E_LOCK_INVALID naming the place
 */
export function decodeLock(text: string, path: string): EnclaveLock {
  const refuse = (why: string): KitError =>
    new KitError("E_LOCK_INVALID", `${path}: ${why}`, {
      hint: "Restore the file, or make it anew with `pipeline lock --update`.",
    });
  if (text.length > MAX_LOCK_BYTES) throw refuse("it is too large");
  const keys = ["version", "architecture", "toolkit", "base", "packages", "toolchain", "kernel"];
  const lock = new StrictObject(parseJson(text, refuse), "lock", keys, refuse);
  lock.integer("version", { minimum: LOCK_VERSION, maximum: LOCK_VERSION });
  return {
    architecture: lock.word("architecture", ["amd64", "arm64"]),
    toolkit: decodeDigests(lock.raw("toolkit"), "lock.toolkit", refuse),
    base: decodeBase(lock.raw("base"), refuse),
    packages: parseLockedPackages(lock.raw("packages")),
    toolchain: parseLockedPackages(lock.raw("toolchain")),
    kernel: decodeKernel(lock.raw("kernel"), refuse),
  };
}

type Refuse = (why: string) => KitError;

function parseJson(text: string, refuse: Refuse): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refuse("it is not JSON");
  }
}

function decodeBase(value: unknown, refuse: Refuse): LockedBase {
  const kind = kindOf(value);
  if (kind === "debian") {
    const base = new StrictObject(value, "lock.base", ["kind", "names"], refuse);
    return { kind, names: base.texts("names", MAX_NAMES, { maximum: 128 }) };
  }
  if (kind === "oci") {
    const base = new StrictObject(value, "lock.base", ["kind", "config", "layers"], refuse);
    const layers = base.texts("layers", MAX_LAYERS, OCI_DIGEST);
    return { kind, config: base.text("config", OCI_DIGEST), layers };
  }
  const base = new StrictObject(value, "lock.base", ["kind"], refuse);
  return { kind: base.word("kind", ["directory"]) };
}

function decodeKernel(value: unknown, refuse: Refuse): LockedKernel {
  if (kindOf(value) === "default") {
    const kernel = new StrictObject(value, "lock.kernel", ["kind", "source"], refuse);
    const [source] = parseLockedPackages([kernel.raw("source")]);
    if (source === undefined) throw refuse("lock.kernel.source: must be a package");
    return { kind: "default", source };
  }
  const kernel = new StrictObject(value, "lock.kernel", ["kind", "files"], refuse);
  kernel.word("kind", ["files"]);
  return { kind: "files", files: decodeDigests(kernel.raw("files"), "lock.kernel.files", refuse) };
}

function kindOf(value: unknown): unknown {
  return typeof value === "object" && value !== null && "kind" in value ? value.kind : undefined;
}

function decodeDigests(value: unknown, place: string, refuse: Refuse): Record<string, string> {
  const names = typeof value === "object" && value !== null ? Object.keys(value) : [];
  if (names.length > MAX_FILES) throw refuse(`${place}: has more than ${MAX_FILES} files`);
  const object = new StrictObject(value, place, names, refuse);
  return Object.fromEntries(names.map((name) => [name, object.text(name, SHA256)]));
}
