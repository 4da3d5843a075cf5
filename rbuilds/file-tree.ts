/**
 * A root file system in memory, changed entry by entry, turned into a manifest at the end. Nothing here touches the
 * disk, and no path leads outside: links are resolved inside the tree only.
 */
import { KitError } from "../core/errors.ts";
import type { Manifest, ManifestEntry } from "../wire/manifest.ts";

export const MAX_TREE_ENTRIES = 1_000_000;
export const MAX_PATH_BYTES = 4096;
export const MAX_NAME_BYTES = 255;
/** Linux's PATH_MAX counts a NUL at the end. */
export const MAX_LINK_TARGET_BYTES = 4095;
const MAX_LINKS = 40;
const SURROGATE = /[\ud800-\udfff]/;

const ROOT_ENTRY: ManifestEntry = { type: "directory", path: "/", mode: 0o755, uid: 0, gid: 0 };

export class FileTree {
  readonly #entries = new Map<string, ManifestEntry>([["/", ROOT_ENTRY]]);
  readonly #children = new Map<string, Set<string>>([["/", new Set()]]);
  /** Paths of hard links by the path of the file they name; a link may be set before its file. */
  readonly #links = new Map<string, Set<string>>();

  static fromManifest(manifest: Manifest): FileTree {
    const tree = new FileTree();
    for (const entry of manifest.entries) tree.set(entry);
    return tree;
  }

  get(path: string): ManifestEntry | undefined {
    return this.#entries.get(path);
  }

  /**
   * Puts `entry` in its place: missing parents are made (0755, root), a directory in the place of anything else
   * replaces it, anything in the place of a directory removes what was below. A file in the place of a file is the
   * same file changed, under all its names; to give one name another file, `remove` it first.
   * @throws E_IMAGE_PATH for a path that is not normal or too long, whose parent is no directory, or a symbolic link
   *   that says nothing or too much; E_IMAGE_TOO_MANY_FILES.
   */
  set(entry: ManifestEntry): void {
    checkPath(entry.path);
    if (entry.type === "symlink") checkLinkTarget(entry);
    if (entry.path === "/") {
      if (entry.type !== "directory") throw pathError(entry.path, "the root must be a directory");
      this.#entries.set("/", entry);
      return;
    }
    const existing = this.#entries.get(entry.path);
    if (existing !== undefined && !isChange(existing, entry)) this.remove(entry.path);
    if (!this.#entries.has(entry.path)) this.#attach(entry.path);
    if (entry.type === "directory" && !this.#children.has(entry.path))
      this.#children.set(entry.path, new Set());
    this.#entries.set(entry.path, entry);
    if (entry.type === "hardlink") this.#linksTo(entry.target).add(entry.path);
    if (entry.type === "file") this.#nameFile(entry, this.#links.get(entry.path) ?? []);
  }

  #linksTo(target: string): Set<string> {
    const known = this.#links.get(target) ?? new Set();
    this.#links.set(target, known);
    return known;
  }

  /** Makes every path of `names` a hard link to `file`: all names of a file say the same of it. */
  #nameFile(file: ManifestEntry, names: Iterable<string>): void {
    const { mode, uid, gid } = file;
    for (const path of names)
      this.#entries.set(path, { type: "hardlink", path, mode, uid, gid, target: file.path });
  }

  #attach(path: string): void {
    if (this.#entries.size >= MAX_TREE_ENTRIES) {
      throw new KitError("E_IMAGE_TOO_MANY_FILES", `an image has at most ${MAX_TREE_ENTRIES} files`);
    }
    const parent = parentOf(path);
    if (!this.#entries.has(parent))
      this.set({ type: "directory", path: parent, mode: 0o755, uid: 0, gid: 0 });
    const siblings = this.#children.get(parent);
    if (siblings === undefined) throw pathError(path, `${parent} is no directory`);
    siblings.add(path);
  }

  /**
   * Removes the entry and everything below it; true if there was one. The root stays and is emptied. A file that has
   * other names lives on under the first of them.
   */
  remove(path: string): boolean {
    const entry = this.#entries.get(path);
    if (entry === undefined) return false;
    for (const child of this.#children.get(path) ?? []) this.remove(child);
    if (path === "/") return true;
    this.#children.delete(path);
    this.#children.get(parentOf(path))?.delete(path);
    this.#entries.delete(path);
    if (entry.type === "hardlink") this.#links.get(entry.target)?.delete(path);
    if (entry.type === "file") this.#keepUnderOtherName(entry);
    return true;
  }

  #keepUnderOtherName(file: ManifestEntry): void {
    const [heir, ...others] = [...(this.#links.get(file.path) ?? [])].sort(compareBytes);
    this.#links.delete(file.path);
    if (heir === undefined) return;
    const moved = { ...file, path: heir };
    this.#entries.set(heir, moved);
    if (others.length > 0) this.#links.set(heir, new Set(others));
    this.#nameFile(moved, others);
  }

  /** Entries directly below a directory, sorted; empty for anything else. */
  children(path: string): ManifestEntry[] {
    const paths = [...(this.#children.get(path) ?? [])].sort(compareBytes);
    return paths.flatMap((child) => this.#entries.get(child) ?? []);
  }

  /**
   * The path that `path` names once symbolic links are followed, the last component too; it need not exist.
   * @throws E_IMAGE_LINK_LOOP after 40 links.
   */
  resolve(path: string): string {
    const pending = path.split("/").reverse();
    let current = "/";
    let links = 0;
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (name === "" || name === ".") continue;
      const next = name === ".." ? parentOf(current) : joinPath(current, name);
      const entry = this.#entries.get(next);
      if (entry?.type !== "symlink") {
        current = next;
        continue;
      }
      links += 1;
      if (links > MAX_LINKS)
        throw new KitError("E_IMAGE_LINK_LOOP", `${path} leads through more than ${MAX_LINKS} links`);
      if (entry.target.startsWith("/")) current = "/";
      pending.push(...entry.target.split("/").reverse());
    }
    return current;
  }

  /** Every entry, sorted by the bytes of its path: parents before children. */
  entries(): ManifestEntry[] {
    return [...this.#entries.values()].sort((a, b) => compareBytes(a.path, b.path));
  }

  toManifest(): Manifest {
    return { version: 1, entries: this.entries() };
  }
}

/** True if `entry` changes what is there instead of taking its place. */
function isChange(existing: ManifestEntry, entry: ManifestEntry): boolean {
  return existing.type === entry.type && (entry.type === "directory" || entry.type === "file");
}

export function parentOf(path: string): string {
  const end = path.lastIndexOf("/");
  return end <= 0 ? "/" : path.slice(0, end);
}

export function joinPath(parent: string, name: string): string {
  return parent === "/" ? `/${name}` : `${parent}/${name}`;
}

/** Order of the bytes of two paths in UTF-8; for text without surrogates that is the order of JavaScript. */
export function compareBytes(a: string, b: string): number {
  if (a === b) return 0;
  if (SURROGATE.test(a) || SURROGATE.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : 1;
}

/** @throws E_IMAGE_PATH unless `path` is absolute, normal and within the limits. */
export function checkPath(path: string): void {
  if (path === "/") return;
  if (!path.startsWith("/")) throw pathError(path, "it is not absolute");
  if (Buffer.byteLength(path) > MAX_PATH_BYTES)
    throw pathError(path, `it has more than ${MAX_PATH_BYTES} bytes`);
  for (const name of path.slice(1).split("/")) {
    if (name === "" || name === "." || name === "..") throw pathError(path, "it is not normal");
    if (name.includes("\0")) throw pathError(path, "it holds a NUL");
    if (Buffer.byteLength(name) > MAX_NAME_BYTES)
      throw pathError(path, `a name has more than ${MAX_NAME_BYTES} bytes`);
  }
}

/** @throws E_IMAGE_PATH unless the kernel would make a symbolic link of it. */
export function checkLinkTarget({ path, target }: { readonly path: string; readonly target: string }): void {
  const sizeBytes = Buffer.byteLength(target);
  if (sizeBytes > 0 && sizeBytes <= MAX_LINK_TARGET_BYTES && !target.includes("\0")) return;
  throw pathError(path, `a symbolic link says 1 to ${MAX_LINK_TARGET_BYTES} bytes without NUL`);
}

function pathError(path: string, why: string): KitError {
  return new KitError(
    "E_IMAGE_PATH",
    `${JSON.stringify(path.slice(0, 200))} cannot be a path of an image: ${why}`,
  );
}
