/**
 * The loader and the shared libraries of Node's executable, from Debian packages of a lock and never from the host.
 * They lie in a folder of their own in the image, so that no library of the image is trusted by the supervisor.
 */
import { basename } from "node:path/posix";
import { KitError } from "../core/errors.ts";
import { RUNTIME_PACKAGES, resolvePackages } from "./apt.ts";
import type { AptOptions } from "./apt-lists.ts";
import type { StoredBlob } from "./blob-store.ts";
import { openPackages, type OpenPackagesOptions } from "./debian-packages.ts";
import { ELF_MACHINE, type ElfInfo, readElfFile } from "./elf.ts";
import { FileTree } from "./file-tree.ts";
import { regularFile } from "./finishers/finish-context.ts";
import { MULTIARCH } from "./finishers/ld-so-cache.ts";
import { mergeUsrPath } from "./finishers/usr-merge.ts";
import type { LockedPackage } from "./locked-package.ts";

export interface RuntimeLibraries {
  readonly loader: StoredBlob;
  /** By the name under which they are needed; sorted. */
  readonly libraries: readonly (StoredBlob & { readonly name: string })[];
}

export interface RuntimeLibrariesOptions extends OpenPackagesOptions {
  /** Node's executable. */
  readonly node: string;
}

const MAX_LIBRARIES = 100;

/**
 * The packages that Node's executable needs, for images whose base is not Debian. Their lock is kept with the others.
 * @throws what resolvePackages throws.
 */
export function resolveRuntimeLibraries(options: AptOptions): Promise<readonly LockedPackage[]> {
  return resolvePackages(RUNTIME_PACKAGES, { ...options, withBase: false });
}

/**
 * Finds what Node needs in the packages of `locked` that RUNTIME_PACKAGES names.
 * @throws E_IMAGE_RUNTIME if one is missing or of another architecture, and what openPackages throws.
 */
export async function openRuntimeLibraries(
  locked: readonly LockedPackage[],
  options: RuntimeLibrariesOptions,
): Promise<RuntimeLibraries> {
  const wanted: readonly string[] = RUNTIME_PACKAGES;
  const runtime = locked.filter((entry) => wanted.includes(entry.name));
  const packages = await openPackages(runtime, options);
  const tree = new FileTree();
  for (const each of packages) for (const entry of each.entries) tree.set(entry);
  const elf = await readProgram(options);
  const loader = regularFile(tree, mergeUsrPath(elf.interpreter));
  if (loader === undefined) throw missing(elf.interpreter, "its loader");
  const libraries = await closure(elf, { tree, options });
  return { loader: { digest: loader.digest, size: loader.size }, libraries };
}

async function readProgram(
  options: RuntimeLibrariesOptions,
): Promise<ElfInfo & { readonly interpreter: string }> {
  const elf = await readElfFile(options.node);
  const interpreter = elf?.interpreter;
  if (elf === undefined || interpreter === undefined || elf.machine !== ELF_MACHINE[options.architecture]) {
    throw new KitError(
      "E_IMAGE_RUNTIME",
      `${options.node} is no dynamic program for ${options.architecture}`,
    );
  }
  return { ...elf, interpreter };
}

interface Search {
  readonly tree: FileTree;
  readonly options: RuntimeLibrariesOptions;
}

/** Everything that `program` needs, and what that needs; the loader is there already. */
async function closure(
  program: ElfInfo & { readonly interpreter: string },
  search: Search,
): Promise<RuntimeLibraries["libraries"]> {
  const found = new Map<string, StoredBlob & { name: string }>();
  const queue = [...program.needed];
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    if (found.has(name) || name === basename(program.interpreter)) continue;
    if (found.size >= MAX_LIBRARIES)
      throw new KitError("E_IMAGE_RUNTIME", `Node needs more than ${MAX_LIBRARIES} libraries`);
    const file = findLibrary(search, name);
    found.set(name, { name, digest: file.digest, size: file.size });
    queue.push(...((await readElfFile(search.options.blobs.path(file.digest)))?.needed ?? []));
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function findLibrary(search: Search, name: string): StoredBlob {
  const folders = [`/usr/lib/${MULTIARCH[search.options.architecture]}`, "/usr/lib", "/usr/lib64"];
  const isName = !name.includes("/");
  for (const folder of isName ? folders : []) {
    const file = regularFile(search.tree, `${folder}/${name}`);
    if (file !== undefined) return file;
  }
  throw missing(name, "a library");
}

function missing(name: string, what: string): KitError {
  return new KitError(
    "E_IMAGE_RUNTIME",
    `Node needs ${name}, ${what}, which none of ${RUNTIME_PACKAGES.join(", ")} has`,
  );
}
