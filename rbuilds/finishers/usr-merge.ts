/**
 * Merged /usr: /bin, /sbin and /lib* are links into /usr, and what packages ship below the old names lies in /usr.
 * Relative links that leave the old folder are written anew, since `../` counts from another depth there.
 */
import { dirname, relative, resolve } from "node:path/posix";
import type { ManifestEntry } from "../../wire/manifest.ts";
import { ensureDirectory, type FinishContext } from "./finish-context.ts";

export const LEGACY_FOLDERS = ["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"] as const;

/** `/lib/x` becomes `/usr/lib/x`; other paths stay. */
export function mergeUsrPath(path: string): string {
  const legacy = LEGACY_FOLDERS.some((folder) => path === folder || path.startsWith(`${folder}/`));
  return legacy ? `/usr${path}` : path;
}

/**
 * A package's entries with all paths in /usr. A link of the package that is itself one of the merged folders
 * (base-files ships them in newer releases) is left out: the finisher makes it.
 */
export function mergeUsrEntries(entries: readonly ManifestEntry[]): readonly ManifestEntry[] {
  const folders: readonly string[] = LEGACY_FOLDERS;
  return entries
    .filter((entry) => entry.type !== "symlink" || !folders.includes(entry.path))
    .map((entry) => {
      const path = mergeUsrPath(entry.path);
      if (entry.type === "hardlink") return { ...entry, path, target: mergeUsrPath(entry.target) };
      if (entry.type === "symlink") return { ...entry, path, target: mergeTarget(entry.path, entry.target) };
      return { ...entry, path };
    });
}

function mergeTarget(link: string, target: string): string {
  if (target.startsWith("/")) return mergeUsrPath(target);
  const old = resolve(dirname(link), target);
  const oldFolder = dirname(link);
  const newFolder = dirname(mergeUsrPath(link));
  const isInside = old.startsWith(`${oldFolder}/`) && !target.includes("..");
  const moved = mergeUsrPath(old);
  if (isInside || (newFolder === oldFolder && moved === old)) return target;
  return relative(newFolder, moved);
}

/** Makes the links of the folders that have a counterpart in /usr; /bin, /lib and /sbin always. */
export function finishUsrMerge(context: FinishContext): Promise<void> {
  for (const folder of LEGACY_FOLDERS) {
    const isAlways = ["/bin", "/lib", "/sbin"].includes(folder);
    if (isAlways) ensureDirectory(context.tree, `/usr${folder}`);
    const hasCounterpart = context.tree.get(`/usr${folder}`)?.type === "directory";
    if (hasCounterpart) context.tree.set(link(folder));
  }
  return Promise.resolve();
}

function link(folder: string): ManifestEntry {
  return { path: folder, type: "symlink", mode: 0o777, uid: 0, gid: 0, target: `usr${folder}` };
}
