/** Owners, modes and directories as the packages' scripts set them, read and never executed. */
import { parseGroup, parsePasswd } from "../account-database.ts";
import { PACKAGE_TABLE } from "../maintainer-script/package-table.ts";
import { type PathAction, readPathCommands } from "../maintainer-script/path-commands.ts";
import { readScriptCommands } from "../maintainer-script/script-commands.ts";
import { changeMode } from "../mode-change.ts";
import type { FileTree } from "../file-tree.ts";
import type { ManifestEntry } from "../../wire/manifest.ts";
import { ensureDirectory, type FinishContext, readText } from "./finish-context.ts";

/** Folders in which scripts may make directories. What they make elsewhere is for the machine they run on. */
const MAY_CREATE = /^\/(?:etc|srv|var)\/(?!run\/|lock\/)/;

interface Ids {
  readonly users: ReadonlyMap<string, number>;
  readonly groups: ReadonlyMap<string, number>;
}

/** Runs after accounts, since it needs their numbers. What is not in the image, or names nobody, is left alone. */
export async function finishMaintainerPaths(context: FinishContext): Promise<void> {
  const ids = await readIds(context);
  for (const each of context.packages) {
    const read = each.control.scripts.flatMap((script) => readPathCommands(readScriptCommands(script)));
    for (const action of [...read, ...(PACKAGE_TABLE.get(each.name)?.paths ?? [])])
      apply(context.tree, action, ids);
  }
  equalizeHardLinks(context.tree);
}

/** All names of a file say the same of it. */
function equalizeHardLinks(tree: FileTree): void {
  for (const entry of tree.entries()) {
    const file = entry.type === "hardlink" ? tree.get(entry.target) : undefined;
    if (file !== undefined) tree.set({ ...entry, mode: file.mode, uid: file.uid, gid: file.gid });
  }
}

async function readIds(context: FinishContext): Promise<Ids> {
  const users = parsePasswd((await readText(context, "/etc/passwd")) ?? "");
  const groups = parseGroup((await readText(context, "/etc/group")) ?? "");
  return {
    users: new Map(users.map((user) => [user.name, user.uid])),
    groups: new Map(groups.map((group) => [group.name, group.gid])),
  };
}

function apply(tree: FileTree, action: PathAction, ids: Ids): void {
  if (action.create && MAY_CREATE.test(action.path)) ensureDirectory(tree, action.path);
  const path = tree.resolve(action.path);
  const change = ownerOf(action, ids);
  if (change === undefined) return;
  for (const target of action.recursive ? subtree(tree, path) : [path]) {
    const entry = fileBehind(tree, target);
    if (entry !== undefined && entry.type !== "symlink") tree.set(changed(entry, change, action.mode));
  }
}

interface Owner {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** undefined if the action names an account that the image does not have. */
function ownerOf(action: PathAction, ids: Ids): Owner | undefined {
  const uid = action.user === undefined ? undefined : idOf(action.user, ids.users);
  const gid = action.group === undefined ? undefined : idOf(action.group, ids.groups);
  const isMissing =
    (action.user !== undefined && uid === undefined) || (action.group !== undefined && gid === undefined);
  return isMissing ? undefined : { uid, gid };
}

function idOf(name: string, ids: ReadonlyMap<string, number>): number | undefined {
  return /^\d{1,9}$/.test(name) ? Number(name) : ids.get(name);
}

/** Owner and mode belong to the file, not to one of its names. */
function fileBehind(tree: FileTree, path: string): ManifestEntry | undefined {
  const entry = tree.get(path);
  return entry?.type === "hardlink" ? tree.get(entry.target) : entry;
}

function changed(entry: ManifestEntry, owner: Owner, mode: string | undefined): ManifestEntry {
  return {
    ...entry,
    uid: owner.uid ?? entry.uid,
    gid: owner.gid ?? entry.gid,
    mode: mode === undefined ? entry.mode : changeMode(entry.mode, mode, entry.type === "directory"),
  };
}

/** Links are not followed and not changed, as `chown -R` and `chmod -R` do. */
function subtree(tree: FileTree, path: string): string[] {
  if (tree.get(path) === undefined) return [];
  return [path, ...tree.children(path).flatMap((child) => subtree(tree, child.path))];
}
