/**
 * Users of services for which nobody named one. Each gets a uid of its own, derived from its name, so that it stays the
 * same when other services come and go: files that it wrote, and reloads, depend on that.
 */
import { createHash } from "node:crypto";

import type { ServiceUser } from "../../wire/enclave-config.ts";

/** The range that systemd gives to dynamic users, up to the gateway's uid (wire/runtime-layout.ts). */
const FIRST_UID = 61_184;
const COUNT = 2_816;

/** @param names of the services without a user; two that fall on one uid are told apart in the order of their names. */
export function assignUsers(names: readonly string[]): ReadonlyMap<string, ServiceUser> {
  const taken = new Set<number>();
  const users = new Map<string, ServiceUser>();
  for (const name of [...names].sort()) {
    let uid = preferredUid(name);
    while (taken.has(uid)) uid = FIRST_UID + ((uid + 1 - FIRST_UID) % COUNT);
    taken.add(uid);
    users.set(name, { name, uid, gid: uid, groups: [], home: "/", assigned: true });
  }
  return users;
}

function preferredUid(name: string): number {
  return FIRST_UID + (createHash("sha256").update(name).digest().readUInt32BE() % COUNT);
}
