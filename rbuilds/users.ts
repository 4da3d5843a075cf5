/** `user:` of a service, looked up in the image's own passwd and group as Docker does. */
import { KitError } from "../core/errors.ts";
import { nearestName } from "../core/nearest-name.ts";
import type { ServiceUser } from "../wire/enclave-config.ts";
import type { BlobStore } from "./blob-store.ts";
import type { FileTree } from "./file-tree.ts";

const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_ID = 0x7f_ff_ff_ff;

interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * Ids and groups of `spec`: `name`, `uid`, `name:group` or `uid:gid`. A number needs no entry in passwd; then its gid
 * is 0 unless given, as in Docker. With a group given there are no supplementary groups.
 * @throws E_IMAGE_USER_UNKNOWN with the nearest name that exists.
 */
export async function resolveUser(tree: FileTree, blobs: BlobStore, spec: string): Promise<ServiceUser> {
  const accounts = parsePasswd(await readText(tree, blobs, "/etc/passwd"));
  const groups = parseGroup(await readText(tree, blobs, "/etc/group"));
  const [userPart = "", groupPart, ...rest] = spec.split(":");
  if (rest.length > 0) throw unknown("group", [groupPart, ...rest].join(":"), spec, groups);
  const account = findAccount(accounts, userPart, spec);
  if (groupPart !== undefined)
    return { ...toUser(account), gid: findGroup(groups, groupPart, spec), groups: [] };
  const memberOf = groups.filter((group) => group.members.includes(account.name)).map((group) => group.gid);
  const supplementary = new Set(memberOf.filter((gid) => gid !== account.gid));
  return { ...toUser(account), groups: [...supplementary].sort((a, b) => a - b) };
}

function toUser({ name, uid, gid, home }: Account): ServiceUser {
  return { name, uid, gid, home, groups: [] };
}

function findAccount(accounts: readonly Account[], part: string, spec: string): Account {
  const id = parseId(part);
  const found = accounts.find((account) => (id === undefined ? account.name === part : account.uid === id));
  if (found !== undefined) return found;
  if (id !== undefined) return { name: part, uid: id, gid: 0, home: "/" };
  throw unknown("user", part, spec, accounts);
}

function findGroup(groups: readonly Group[], part: string, spec: string): number {
  const id = parseId(part);
  const gid = id ?? groups.find((group) => group.name === part)?.gid;
  if (gid === undefined) throw unknown("group", part, spec, groups);
  return gid;
}

function unknown(
  kind: string,
  name: string,
  spec: string,
  known: readonly { readonly name: string }[],
): KitError {
  const near = nearestName(
    name,
    known.map((one) => one.name),
  );
  const suggestion = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
  const message = `user ${JSON.stringify(spec)}: the image has no ${kind} ${JSON.stringify(name)}${suggestion}`;
  return new KitError("E_IMAGE_USER_UNKNOWN", message);
}

async function readText(tree: FileTree, blobs: BlobStore, path: string): Promise<string> {
  const entry = tree.get(tree.resolve(path));
  const file = entry?.type === "hardlink" ? tree.get(entry.target) : entry;
  return file?.type === "file" ? (await blobs.read(file.digest, MAX_FILE_BYTES)).toString("utf8") : "";
}

/** Lines that are malformed are passed over, as the C library does. */
function parsePasswd(text: string): Account[] {
  return text.split("\n").flatMap((line) => {
    const [name = "", , uidText = "", gidText = "", , home = ""] = line.split(":");
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    return name === "" || uid === undefined || gid === undefined
      ? []
      : [{ name, uid, gid, home: home || "/" }];
  });
}

function parseGroup(text: string): Group[] {
  return text.split("\n").flatMap((line) => {
    const [name = "", , gidText = "", members = ""] = line.split(":");
    const gid = parseId(gidText);
    return name === "" || gid === undefined
      ? []
      : [{ name, gid, members: members.split(",").filter((one) => one !== "") }];
  });
}

function parseId(text: string): number | undefined {
  return /^[0-9]{1,10}$/.test(text) && Number(text) <= MAX_ID ? Number(text) : undefined;
}
