/** Users by name in the enclave's own passwd and group files. They belong to the image, which is measured. */
import { open } from "node:fs/promises";

import { KitError } from "../../core/errors.ts";
import type { ServiceUser } from "../../wire/enclave-config.ts";

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_ID = 4_294_967_294;
const MAX_GROUPS = 64;

export interface AccountFiles {
  readonly passwd: string;
  readonly group: string;
}

/** @param text `name`, `uid` or `uid:gid`. @throws E_EXEC_USER */
export async function lookUpUser(text: string, files: AccountFiles): Promise<ServiceUser> {
  const [user = "", group, ...rest] = text.split(":");
  const account = findAccount(user, await readRows(files.passwd));
  const gid = group === undefined ? account?.gid : idOf(group);
  if (account === undefined || gid === undefined || rest.length > 0) {
    throw new KitError("E_EXEC_USER", `the enclave has no user ${JSON.stringify(text.slice(0, 64))}`);
  }
  const groups = group === undefined ? await groupsOf(account.name, gid, files.group) : [];
  return { ...account, gid, groups };
}

/** A number needs no line of its own; without one it is its own group. */
function findAccount(
  user: string,
  rows: readonly string[][],
): Pick<ServiceUser, "name" | "uid" | "gid" | "home"> | undefined {
  const isNumber = /^\d+$/.test(user);
  const row = rows.find((fields) => fields[isNumber ? 2 : 0] === user);
  const [name = user, , uidText = isNumber ? user : "", gidText = isNumber ? user : "", , home = "/"] =
    row ?? [];
  const [uid, gid] = [idOf(uidText), idOf(gidText)];
  if (uid === undefined || gid === undefined) return undefined;
  return { name, uid, gid, home: home.startsWith("/") ? home : "/" };
}

async function groupsOf(name: string, gid: number, path: string): Promise<number[]> {
  const rows = await readRows(path);
  const ids = rows.flatMap((fields) => {
    const id = idOf(fields[2] ?? "");
    return id !== undefined && id !== gid && (fields[3] ?? "").split(",").includes(name) ? [id] : [];
  });
  return [...new Set(ids)].sort((a, b) => a - b).slice(0, MAX_GROUPS);
}

function idOf(text: string): number | undefined {
  return /^\d{1,10}$/.test(text) && Number(text) <= MAX_ID ? Number(text) : undefined;
}

/** Fields of each line; nothing where there is no file. */
async function readRows(path: string): Promise<string[][]> {
  try {
    await using file = await open(path, "r");
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_FILE_BYTES), 0, MAX_FILE_BYTES, 0);
    const lines = buffer.toString("utf8", 0, bytesRead).split("\n");
    return lines.map((line) => line.split(":")).filter((fields) => fields.length >= 4);
  } catch {
    return [];
  }
}
