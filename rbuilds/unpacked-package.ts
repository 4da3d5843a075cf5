import type { ManifestEntry } from "../wire/manifest.ts";

/** A .deb taken apart: its files, and what its control archive says. */
export interface UnpackedPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Sorted, without the root directory; paths are in merged /usr, owners and modes as in the archive. */
  readonly entries: readonly ManifestEntry[];
  readonly control: PackageControl;
}

export interface PackageControl {
  /** The control paragraph, as in the package. */
  readonly paragraph: string;
  /** preinst and postinst, in that order, where they are shell scripts. */
  readonly scripts: readonly string[];
  /** Those in another language, which are not read. */
  readonly foreignScripts: readonly string[];
  /** Empty where the package has none. */
  readonly md5sums: string;
}

export function encodePackageControl(control: PackageControl): string {
  return JSON.stringify(control);
}

/** @returns undefined for anything that encodePackageControl did not write; the package is unpacked again then. */
export function decodePackageControl(text: string): PackageControl | undefined {
  const fields = parseObject(text);
  const { paragraph, scripts, foreignScripts, md5sums } = fields;
  const isComplete = typeof paragraph === "string" && typeof md5sums === "string";
  if (!isComplete || !isTextList(scripts) || !isTextList(foreignScripts)) return undefined;
  return { paragraph, scripts, foreignScripts, md5sums };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

function isTextList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
