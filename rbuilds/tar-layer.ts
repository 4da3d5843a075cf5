/**
 * Applies one tar archive to a tree, as a container engine unpacks a layer, but into the manifest: owners, modes,
 * devices and links become data, and nothing of the archive reaches the disk but file contents in the blob store.
 *
 * Refused: absolute names, `..`, NUL, names under something that is not a directory once links are followed, a name
 * twice in one archive (directories may repeat), hard links to what is neither in it nor below it. Links in the middle of
 * a name are followed inside the tree, never outside. Targets of symbolic links are data and may say anything.
 * Extended attributes: `user.*` and `security.capability` are kept, all others dropped.
 *
 * Whiteouts (OCI): `.wh.NAME` removes NAME of the layers below, `.wh..wh..opq` everything in its directory; what the
 * layer itself brings stays, wherever in the archive the whiteout stands.
 */
import { KitError } from "../core/errors.ts";
import type { ManifestEntry } from "../wire/manifest.ts";
import { readTar, type TarMember } from "../wire/tar/tar-reader.ts";
import type { BlobStore } from "./blob-store.ts";
import { decompress } from "./decompress.ts";
import { type FileTree, joinPath, parentOf } from "./file-tree.ts";
import { imageTarRefusal, tarNameError } from "./tar-refusals.ts";

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";

export interface LayerLimits {
  /** Of the archive once decompressed. */
  readonly maxBytes: number;
  readonly maxMembers: number;
}

export const DEFAULT_LAYER_LIMITS: LayerLimits = { maxBytes: 32 * 1024 ** 3, maxMembers: 500_000 };

export interface LayerOptions {
  readonly tree: FileTree;
  readonly blobs: BlobStore;
  readonly whiteouts: boolean;
  /** Where a path of the archive goes; for merged /usr. */
  readonly mapPath?: ((path: string) => string) | undefined;
  readonly limits: LayerLimits;
  /** Names the archive in messages. */
  readonly source: string;
  readonly signal?: AbortSignal | undefined;
}

interface LayerState extends LayerOptions {
  /** Paths that this archive has set, to find duplicates and to spare them from opaque whiteouts. */
  readonly written: Map<string, ManifestEntry["type"]>;
}

/**
 * @param stream plain, gzip or zstd; closed at the end in any case.
 * @throws E_IMAGE_TAR, E_IMAGE_TAR_NAME, E_IMAGE_TAR_DUPLICATE, E_IMAGE_TAR_LINK, E_IMAGE_TAR_TOO_LARGE, E_IMAGE_PATH,
 *   E_IMAGE_LINK_LOOP, E_IMAGE_TOO_MANY_FILES, E_IMAGE_COMPRESSION, E_DISK_FULL
 */
export async function applyTarLayer(stream: AsyncIterable<Uint8Array>, options: LayerOptions): Promise<void> {
  try {
    await applyMembers(stream, options);
  } catch (error) {
    // What an aborted source gives looks like an archive cut off.
    options.signal?.throwIfAborted();
    throw error;
  }
}

async function applyMembers(stream: AsyncIterable<Uint8Array>, options: LayerOptions): Promise<void> {
  const state: LayerState = { ...options, written: new Map() };
  const { maxBytes, maxMembers } = options.limits;
  let members = 0;
  const archive = decompress(stream, { maxBytes, source: options.source });
  for await (const member of readTar(archive, { refuse: imageTarRefusal(options.source) })) {
    options.signal?.throwIfAborted();
    members += 1;
    if (members > maxMembers) {
      throw new KitError("E_IMAGE_TAR_TOO_LARGE", `${options.source} holds more than ${maxMembers} members`);
    }
    await applyMember(state, member);
  }
}

async function applyMember(state: LayerState, member: TarMember): Promise<void> {
  const path = placeOf(state, memberPath(member.name, state.source));
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (state.whiteouts && name.startsWith(WHITEOUT)) return applyWhiteout(state, path, name);
  const entry = await toEntry(state, member, path);
  const earlier = state.written.get(path);
  if (earlier !== undefined && !(earlier === "directory" && entry.type === "directory")) {
    throw new KitError("E_IMAGE_TAR_DUPLICATE", `${state.source} holds ${JSON.stringify(path)} twice`);
  }
  // A member is a file of its own: other names that a lower layer gave the old one keep that.
  if (entry.type !== "directory") state.tree.remove(path);
  state.tree.set(entry);
  state.written.set(path, entry.type);
}

/** `./a/b/` and `a/b` are `/a/b`. */
function memberPath(name: string, source: string): string {
  const parts = name.split("/").filter((part) => part !== "." && part !== "");
  if (name.startsWith("/")) throw tarNameError(source, name, "it is absolute");
  if (name === "" || name.includes("\0")) throw tarNameError(source, name, "it is empty or holds a NUL");
  if (parts.includes("..")) throw tarNameError(source, name, "it leads upwards");
  return `/${parts.join("/")}`;
}

/** The path in the tree: mapped, with links in its parents followed inside the tree. */
function placeOf(state: LayerState, path: string): string {
  const mapped = state.mapPath?.(path) ?? path;
  if (mapped === "/") return mapped;
  const parent = state.tree.resolve(parentOf(mapped));
  const entry = state.tree.get(parent);
  if (entry !== undefined && entry.type !== "directory") {
    throw tarNameError(state.source, path, `${parent} is no directory`);
  }
  return joinPath(parent, mapped.slice(mapped.lastIndexOf("/") + 1));
}

function applyWhiteout(state: LayerState, path: string, name: string): void {
  const parent = parentOf(path);
  if (name !== OPAQUE) {
    const target = joinPath(parent, name.slice(WHITEOUT.length));
    if (name === WHITEOUT || target.endsWith("/..") || target.endsWith("/.")) {
      throw tarNameError(state.source, path, "it is no whiteout");
    }
    const entry = state.tree.get(target);
    if (entry !== undefined) removeOlder(state, entry);
    return;
  }
  for (const child of state.tree.children(parent)) removeOlder(state, child);
}

/** Removes what lower layers put at or below `entry`, and keeps what this layer wrote. */
function removeOlder(state: LayerState, entry: ManifestEntry): void {
  const children = state.tree.children(entry.path);
  for (const child of children) removeOlder(state, child);
  if (!state.written.has(entry.path) && state.tree.children(entry.path).length === 0)
    state.tree.remove(entry.path);
}

async function toEntry(state: LayerState, member: TarMember, path: string): Promise<ManifestEntry> {
  const { mode, uid, gid } = member;
  const base = { path, mode, uid, gid, ...keptXattrs(member.xattrs) };
  switch (member.type) {
    case "directory":
    case "fifo":
      return { ...base, type: member.type };
    case "symlink":
      if (member.linkName === "" || member.linkName.includes("\0"))
        throw tarNameError(state.source, path, "it links nowhere");
      return { ...base, type: "symlink", target: member.linkName };
    case "character":
    case "block":
      return { ...base, type: member.type, major: member.major, minor: member.minor };
    case "hardlink":
      return linkEntry(state, member, path);
    case "file": {
      const { digest, size } = await state.blobs.put(member.content, { signal: state.signal });
      return { ...base, type: "file", digest, size };
    }
  }
}

/** A hard link takes the attributes of its file; a link to a link is a link to the file. */
function linkEntry(state: LayerState, member: TarMember, path: string): ManifestEntry {
  const target = placeOf(state, memberPath(member.linkName, state.source));
  const linked = state.tree.get(target);
  const file = linked?.type === "hardlink" ? state.tree.get(linked.target) : linked;
  const isReplaced = file !== undefined && (file.path === path || file.path.startsWith(`${path}/`));
  if (file === undefined || isReplaced || file.type === "directory") {
    throw new KitError(
      "E_IMAGE_TAR_LINK",
      `${state.source}: ${path} is a hard link to ${member.linkName}, which is no file of it`,
    );
  }
  if (file.type !== "file") return { ...file, path };
  const { mode, uid, gid } = file;
  return { type: "hardlink", path, mode, uid, gid, target: file.path };
}

function keptXattrs(xattrs: Readonly<Record<string, string>>): { xattrs?: Readonly<Record<string, string>> } {
  const kept = Object.entries(xattrs).filter(
    ([name]) => name.startsWith("user.") || name === "security.capability",
  );
  return kept.length === 0 ? {} : { xattrs: Object.fromEntries(kept) };
}
