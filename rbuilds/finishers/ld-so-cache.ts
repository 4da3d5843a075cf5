/**
 * What ldconfig does: /etc/ld.so.cache from the libraries in the directories of ld.so.conf and the default ones, and
 * the link of a library's SONAME where a package lacks it. Libraries in glibc-hwcaps folders are left to the loader's
 * own search of the default directories.
 */
import { basename, dirname, join } from "node:path/posix";
import { KitError } from "../../core/errors.ts";
import { ELF_MACHINE, type ElfInfo, readElfFile } from "../elf.ts";
import { type CacheEntry, compareLibraryNames, encodeLdSoCache } from "../ld-so-cache.ts";
import type { DebianArchitecture } from "../locked-package.ts";
import type { ManifestEntry } from "../../wire/manifest.ts";
import { type FinishContext, readText, regularFile, writeLink } from "./finish-context.ts";

export const MULTIARCH: Readonly<Record<DebianArchitecture, string>> = {
  amd64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};
const LIBRARY = /^(?:lib.*|ld-.*)\.so(?:\.|$)/;
const MAX_INCLUDE_DEPTH = 4;

export async function finishLdSoCache(context: FinishContext): Promise<void> {
  const entries: CacheEntry[] = [];
  for (const directory of await libraryDirectories(context)) {
    entries.push(...(await readDirectory(context, directory)));
  }
  const bytes = encodeLdSoCache(entries, context.architecture);
  const { digest, size } = await context.blobs.put(bytes);
  context.tree.set({ path: "/etc/ld.so.cache", type: "file", mode: 0o644, uid: 0, gid: 0, digest, size });
}

/** In the loader's order, each directory once even if it has several names. */
async function libraryDirectories(context: FinishContext): Promise<readonly string[]> {
  const multiarch = MULTIARCH[context.architecture];
  const main = await readConf(context, "/etc/ld.so.conf", 0);
  // Without libc-bin there is no ld.so.conf, but the packages' own files are there.
  const configured = main ?? (await readConfFolder(context, "/etc/ld.so.conf.d", 1));
  const wanted = [...configured, `/lib/${multiarch}`, `/usr/lib/${multiarch}`, "/lib", "/usr/lib"];
  const seen = new Set<string>();
  return wanted.filter((path) => {
    const real = context.tree.resolve(path);
    if (seen.has(real) || context.tree.get(real)?.type !== "directory") return false;
    seen.add(real);
    return true;
  });
}

async function readConf(context: FinishContext, path: string, depth: number): Promise<string[] | undefined> {
  const text = depth > MAX_INCLUDE_DEPTH ? undefined : await readText(context, path);
  if (text === undefined) return undefined;
  const directories: string[] = [];
  for (const raw of text.split("\n")) {
    const line = raw.replace(/#.*$/, "").trim();
    const [, pattern] = /^include\s+(\S+)$/.exec(line) ?? [];
    if (pattern?.endsWith("/*.conf") === true) {
      directories.push(...(await readConfFolder(context, dirname(pattern), depth + 1)));
    } else if (line.startsWith("/")) directories.push(line.replace(/\/+$/, ""));
  }
  return directories;
}

async function readConfFolder(context: FinishContext, folder: string, depth: number): Promise<string[]> {
  const names = childNames(context, folder).filter((name) => name.endsWith(".conf"));
  const read = await Promise.all(names.map((name) => readConf(context, join(folder, name), depth)));
  return read.flatMap((directories) => directories ?? []);
}

function childNames(context: FinishContext, folder: string): string[] {
  return context.tree.children(context.tree.resolve(folder)).map((entry) => basename(entry.path));
}

interface Library {
  /** Name of the file or link in its directory. */
  readonly name: string;
  /** Under which the loader asks for it. */
  readonly soname: string;
  readonly isLink: boolean;
}

async function readDirectory(context: FinishContext, directory: string): Promise<readonly CacheEntry[]> {
  const bySoname = new Map<string, Library>();
  for (const name of childNames(context, directory).filter((each) => LIBRARY.test(each))) {
    const library = await readLibrary(context, directory, name);
    const known = library === undefined ? undefined : bySoname.get(library.soname);
    if (library !== undefined && (known === undefined || isBetter(library, known))) {
      bySoname.set(library.soname, library);
    }
  }
  return [...bySoname.values()].map((library) => {
    const path = join(directory, library.soname);
    const isMissing = regularFile(context.tree, path) === undefined;
    if (isMissing && !library.isLink) writeLink(context.tree, path, library.name);
    return { name: library.soname, path };
  });
}

/** A file is better than a link, and of two files of one SONAME the later version. */
function isBetter(library: Library, known: Library): boolean {
  if (library.isLink !== known.isLink) return known.isLink;
  return compareLibraryNames(known.name, library.name) < 0;
}

async function readLibrary(
  context: FinishContext,
  directory: string,
  name: string,
): Promise<Library | undefined> {
  const path = join(context.tree.resolve(directory), name);
  const file = regularFile(context.tree, path);
  const elf = file === undefined ? undefined : await readUsable(context, path, file);
  if (elf === undefined) return undefined;
  const soname = elf.soname ?? name;
  if (soname.includes("/")) return undefined;
  // A link of the SONAME, and the one for compilers (libx.so), stand for themselves; others only name a file.
  const isOwn = name === soname || (name.endsWith(".so") && soname.startsWith(name));
  const isLink = isOwn && context.tree.get(path)?.type === "symlink";
  return { name, soname: isLink ? name : soname, isLink };
}

/** A library that the loader of this architecture can use. A malformed one is left out, with a warning. */
async function readUsable(
  context: FinishContext,
  path: string,
  file: ManifestEntry & { type: "file" },
): Promise<ElfInfo | undefined> {
  try {
    const elf = await readElfFile(context.blobs.path(file.digest));
    const isShared = elf?.dynamic === true && elf.kind === "shared";
    return isShared && elf.machine === ELF_MACHINE[context.architecture] ? elf : undefined;
  } catch (error) {
    if (!(error instanceof KitError) || error.code !== "E_IMAGE_ELF") throw error;
    context.warn(`${path} is left out of the loader's cache: ${error.message}`);
    return undefined;
  }
}
