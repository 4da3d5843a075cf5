import { KitError } from "../core/errors.ts";

/** Debian's names of the architectures the toolkit builds for. */
export type DebianArchitecture = "amd64" | "arm64";

/** One Debian package, exactly: two builds from the same list have the same bytes. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  /** `all` for packages that are the same everywhere. */
  readonly architecture: DebianArchitecture | "all";
  /** Of the .deb, lower-case hex. */
  readonly sha256: string;
  /** Of the .deb. */
  readonly sizeBytes: number;
  /** Name of the .deb as apt writes it: `redis-server_5%3a7.0.15-1_amd64.deb`. */
  readonly filename: string;
}

/** A lock larger than this is refused; the largest Debian closures have about 2,000 packages. */
export const MAX_LOCKED_PACKAGES = 10_000;
/** No .deb is larger than this. */
export const MAX_DEB_BYTES = 4 * 1024 ** 3;

const NAME = /^[a-z0-9][a-z0-9+.-]{1,127}$/;
const VERSION = /^[0-9][A-Za-z0-9.+~:-]{0,127}$/;
const FILENAME = /^[a-z0-9][A-Za-z0-9.+~%_-]{1,300}\.deb$/;

/** True for a name that Debian policy allows (5.6.1), so it is safe as an argument of apt. */
export function isPackageName(name: string): boolean {
  return NAME.test(name);
}

/**
 * The packages of a lock file, checked field by field and sorted by name.
 * @throws E_LOCK_INVALID naming the entry and the field.
 */
export function parseLockedPackages(value: unknown): readonly LockedPackage[] {
  if (!Array.isArray(value) || value.length > MAX_LOCKED_PACKAGES) {
    throw new KitError("E_LOCK_INVALID", "the lock holds no list of packages, or one that is too long");
  }
  const packages = value.map((entry: unknown, index) => parseEntry(entry, index));
  const names = new Set(packages.map((entry) => entry.name));
  if (names.size !== packages.length) throw new KitError("E_LOCK_INVALID", "the lock names a package twice");
  return packages.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function parseEntry(value: unknown, index: number): LockedPackage {
  const fields: Record<string, unknown> = typeof value === "object" && value !== null ? { ...value } : {};
  const text = (key: string, pattern: RegExp): string => {
    const field = fields[key];
    if (typeof field === "string" && pattern.test(field)) return field;
    throw new KitError("E_LOCK_INVALID", `package ${index} of the lock has no valid ${key}: ${show(field)}`);
  };
  const size = fields["sizeBytes"];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 1 || size > MAX_DEB_BYTES) {
    throw new KitError(
      "E_LOCK_INVALID",
      `package ${index} of the lock has no valid sizeBytes: ${show(size)}`,
    );
  }
  return {
    name: text("name", NAME),
    version: text("version", VERSION),
    architecture: parseArchitecture(text("architecture", /^(amd64|arm64|all)$/)),
    sha256: text("sha256", /^[0-9a-f]{64}$/),
    sizeBytes: size,
    filename: text("filename", FILENAME),
  };
}

function parseArchitecture(name: string): LockedPackage["architecture"] {
  return name === "amd64" || name === "arm64" ? name : "all";
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 80);
}

/**
 * Reads one line of `apt-get --print-uris`: `'URI' name_version_arch.deb size SHA256:hex`. apt quotes `_` and `:`
 * inside the three parts, so the name of the file tells them apart.
 * @returns undefined for a line that is no download.
 */
export function parsePrintedUri(line: string): LockedPackage | undefined {
  const match = /^'[^']+' (([^_ ]+)_([^_ ]+)_([^_ ]+)\.deb) (\d+) SHA256:([0-9a-f]{64})$/.exec(line);
  if (match === null) return undefined;
  const [, filename = "", name = "", version = "", architecture = "", size = "", sha256 = ""] = match;
  return parseEntry(
    {
      name: unquote(name),
      version: unquote(version),
      architecture: unquote(architecture),
      sha256,
      sizeBytes: Number(size),
      filename,
    },
    0,
  );
}

function unquote(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
