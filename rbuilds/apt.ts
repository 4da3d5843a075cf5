/**
 * Debian packages, resolved by apt itself: in private directories, without root, from the system's own sources, with
 * the signatures that those sources name. Nothing of the machine's installed packages matters (empty status).
 */
import { KitError } from "../core/errors.ts";
import { type AptOptions, openPackageLists, type PackageLists } from "./apt-lists.ts";
import { type AptResult, lastLines } from "./apt-program.ts";
import { isPackageName, type LockedPackage, parsePrintedUri } from "./locked-package.ts";
import { nearestNames } from "../core/nearest-name.ts";

/** Node's executable needs these at run time. */
export const RUNTIME_PACKAGES = ["libatomic1", "libc6", "libgcc-s1", "libstdc++6"] as const;
/** In every image with a Debian base: directories, accounts, a shell, and basic programs. */
export const BASE_PACKAGES = ["base-files", "base-passwd", "coreutils", "dash", ...RUNTIME_PACKAGES] as const;

const RESOLVE_TIMEOUT_MS = 120_000;

export interface ResolveOptions extends AptOptions {
  /** False: only the packages named and what they depend on. Default: BASE_PACKAGES too. */
  readonly withBase?: boolean;
}

/**
 * Everything that must be unpacked so that `packages` work, without recommendations, sorted by name.
 * @throws E_IMAGE_PACKAGE_NAME (malformed), E_IMAGE_PACKAGE_UNKNOWN (with the nearest names), E_IMAGE_APT_RESOLVE
 *   (conflicts, in apt's words), E_IMAGE_APT_UPDATE (no lists), E_IMAGE_APT_MISSING.
 */
export async function resolvePackages(
  packages: readonly string[],
  options: ResolveOptions,
): Promise<readonly LockedPackage[]> {
  refuseMalformedNames(packages);
  const lists = await openPackageLists(options);
  options.onProgress?.({ stage: "resolve", done: 0, total: 0, bytes: 0, totalBytes: 0 });
  const known = await knownNames(lists);
  refuseUnknownNames(packages, known);
  const wanted = new Set(packages);
  if (options.withBase !== false) addBase(wanted, known, lists);
  return install([...wanted].sort(), lists);
}

function refuseMalformedNames(packages: readonly string[]): void {
  const malformed = packages.find((name) => !isPackageName(name));
  if (malformed !== undefined) {
    throw new KitError(
      "E_IMAGE_PACKAGE_NAME",
      `not a Debian package name: ${JSON.stringify(malformed.slice(0, 140))}`,
    );
  }
}

/** apt takes an unknown name as a pattern or, with a `-` at its end, as a wish to remove; so names are checked first. */
async function knownNames(lists: PackageLists): Promise<ReadonlySet<string>> {
  const result = await lists.run("apt-cache", ["pkgnames"], { timeoutMs: RESOLVE_TIMEOUT_MS });
  if (result.status !== 0) throw refusal(lists, result);
  return new Set(result.stdout.split("\n").filter((name) => name !== ""));
}

function refuseUnknownNames(packages: readonly string[], known: ReadonlySet<string>): void {
  const unknown = packages.find((name) => !known.has(name));
  if (unknown === undefined) return;
  const nearest = nearestNames(unknown, known);
  const suggestion = nearest.length > 0 ? `; near: ${nearest.join(", ")}` : "";
  throw new KitError("E_IMAGE_PACKAGE_UNKNOWN", `no Debian package is named ${unknown}${suggestion}`, {
    details: { package: unknown, nearest },
  });
}

function addBase(wanted: Set<string>, known: ReadonlySet<string>, lists: PackageLists): void {
  const missing = BASE_PACKAGES.filter((name) => !known.has(name));
  if (missing.length > 0) {
    const log = lists.updateLog === "" ? "" : `; apt said: ${lists.updateLog}`;
    throw new KitError("E_IMAGE_APT_UPDATE", `the package lists lack ${missing.join(", ")}${log}`);
  }
  for (const name of BASE_PACKAGES) wanted.add(name);
  // Many packages want "usrmerge | usr-is-merged". The first is a script in Perl with 20 MB of dependencies; the
  // second says that nothing is left to do, which is so here.
  if (known.has("usr-is-merged") && !wanted.has("usrmerge")) wanted.add("usr-is-merged");
}

async function install(names: readonly string[], lists: PackageLists): Promise<readonly LockedPackage[]> {
  const args = [
    "install",
    "--print-uris",
    "--assume-yes",
    "--quiet=1",
    "--no-install-recommends",
    "--",
    ...names,
  ];
  const result = await lists.run("apt-get", args, { timeoutMs: RESOLVE_TIMEOUT_MS });
  if (result.status !== 0) throw refusal(lists, result);
  const locked = result.stdout
    .split("\n")
    .map(parsePrintedUri)
    .filter((entry) => entry !== undefined);
  const missing = names.filter((name) => !locked.some((entry) => entry.name === name));
  if (missing.length > 0) {
    throw new KitError("E_IMAGE_APT_RESOLVE", `apt left out ${missing.join(", ")}: ${lastLines(result)}`);
  }
  return locked.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function refusal(lists: PackageLists, result: AptResult): KitError {
  const explanation = `${result.stdout}\n${result.stderr}`
    .split("\n")
    .filter(
      (line) =>
        !/^(?:Reading|Building|Some packages could|requested an|distribution that|or been moved)/.test(line),
    );
  const text = explanation.join("\n").trim().slice(-3000);
  return new KitError("E_IMAGE_APT_RESOLVE", `apt cannot resolve the packages: ${text}`, {
    details: { updateLog: lists.updateLog },
  });
}
