/**
 * Numbers for the system accounts of an image. They depend on the set of accounts alone: all names that need one, in
 * the order of their bytes, get the numbers from 100 upwards that are free both as uid and as gid; a user and the group
 * of its name share one.
 */
import type { Group, User } from "./account-database.ts";
import type { AccountRequest, UserRequest } from "./maintainer-script/account-commands.ts";
import { KitError } from "../core/errors.ts";

const FIRST_SYSTEM_ID = 100;
const LAST_SYSTEM_ID = 999;

export interface Accounts {
  readonly users: readonly User[];
  readonly groups: readonly Group[];
}

/**
 * The accounts of `base` and all that `requests` ask for. A name that exists stays as it is; of two requests for one
 * name the first counts.
 * @throws E_IMAGE_PACKAGE_CONTENT with more than 900 system accounts.
 */
export function allocateAccounts(base: Accounts, requests: readonly AccountRequest[]): Accounts {
  const wanted = collectWanted(base, requests);
  const numbers = allocateNumbers(base, wanted);
  const groups = new Map(base.groups.map((group) => [group.name, group]));
  for (const name of [...wanted.groups.keys()].sort()) {
    groups.set(name, { name, gid: numbers.gids.get(name) ?? 0, members: [] });
  }
  const users = new Map(base.users.map((user) => [user.name, user]));
  for (const name of [...wanted.users.keys()].sort()) {
    const request = wanted.users.get(name);
    if (request !== undefined) users.set(name, makeUser(request, numbers.uids.get(name) ?? 0, groups));
  }
  addMembers(requests, users, groups);
  return { users: [...users.values()], groups: [...groups.values()] };
}

interface Wanted {
  readonly users: Map<string, UserRequest>;
  /** With the gid that was asked for. */
  readonly groups: Map<string, number | undefined>;
}

function collectWanted(base: Accounts, requests: readonly AccountRequest[]): Wanted {
  const hasUser = new Set(base.users.map((user) => user.name));
  const hasGroup = new Set(base.groups.map((group) => group.name));
  const wanted: Wanted = { users: new Map(), groups: new Map() };
  const addGroup = (name: string, gid: number | undefined): void => {
    const known = wanted.groups.get(name);
    if (!hasGroup.has(name)) wanted.groups.set(name, known ?? gid);
  };
  for (const request of requests) {
    if (request.kind === "group") addGroup(request.name, request.gid);
    if (request.kind !== "user" || hasUser.has(request.name)) continue;
    if (!wanted.users.has(request.name)) wanted.users.set(request.name, request);
    const group = request.group ?? request.name;
    if (!isNumber(group)) addGroup(group, undefined);
  }
  return wanted;
}

interface Numbers {
  readonly uids: ReadonlyMap<string, number>;
  readonly gids: ReadonlyMap<string, number>;
}

function allocateNumbers(base: Accounts, wanted: Wanted): Numbers {
  const takenUids = new Set(base.users.map((user) => user.uid));
  const takenGids = new Set(base.groups.map((group) => group.gid));
  const uids = new Map<string, number>();
  const gids = new Map<string, number>();
  const names = [...new Set([...wanted.users.keys(), ...wanted.groups.keys()])].sort();
  const keep = (
    name: string,
    id: number | undefined,
    taken: Set<number>,
    into: Map<string, number>,
  ): void => {
    if (id === undefined || taken.has(id)) return;
    taken.add(id);
    into.set(name, id);
  };
  for (const name of names) {
    keep(name, wanted.users.get(name)?.uid, takenUids, uids);
    keep(name, wanted.groups.get(name), takenGids, gids);
  }
  let next = FIRST_SYSTEM_ID;
  for (const name of names) {
    while (takenUids.has(next) || takenGids.has(next)) next += 1;
    if (next > LAST_SYSTEM_ID)
      throw new KitError("E_IMAGE_PACKAGE_CONTENT", "no number is left for a system account");
    const needsUid = wanted.users.has(name) && !uids.has(name);
    const needsGid = wanted.groups.has(name) && !gids.has(name);
    if (needsUid) keep(name, next, takenUids, uids);
    if (needsGid) keep(name, next, takenGids, gids);
  }
  return { uids, gids };
}

function makeUser(request: UserRequest, uid: number, groups: ReadonlyMap<string, Group>): User {
  const group = request.group ?? request.name;
  const gid = isNumber(group) ? Number(group) : (groups.get(group)?.gid ?? uid);
  const { name, comment, home, shell } = request;
  return { name, uid, gid, comment, home, shell };
}

function addMembers(
  requests: readonly AccountRequest[],
  users: ReadonlyMap<string, User>,
  groups: Map<string, Group>,
): void {
  for (const request of requests) {
    if (request.kind !== "member" || !users.has(request.user)) continue;
    const group = groups.get(request.group);
    if (group === undefined || group.gid === users.get(request.user)?.gid) continue;
    const members = [...new Set([...group.members, request.user])].sort();
    groups.set(group.name, { ...group, members });
  }
}

function isNumber(text: string): boolean {
  return /^\d{1,9}$/.test(text);
}
