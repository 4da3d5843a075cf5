/** Owner, mode and time of things that a copy makes. */
import { chmod, chown, type FileHandle, utimes } from "node:fs/promises";

import { isErrno, KitError } from "../core/errors.ts";
import type { TarMember } from "../wire/tar/tar-reader.ts";
import { quoteName, refuseFormat, writingStep } from "./archive-refusals.ts";
import { handlePath } from "./open-directory.ts";

export interface AttributePolicy {
  /** `keep`: uid and gid of the archive, by number. `caller`: whoever runs this. */
  readonly owners: "keep" | "caller";
  /** Setuid, setgid and sticky bits. */
  readonly specialModes: "keep" | "drop";
}

/** @param handle of the thing itself; may be one with O_PATH. @throws E_ARCHIVE_OWNER, E_ARCHIVE_ACCESS */
export async function applyAttributes(
  handle: FileHandle,
  member: TarMember,
  policy: AttributePolicy,
): Promise<void> {
  const path = handlePath(handle);
  // The owner first: a change of it clears setuid.
  if (policy.owners === "keep") await changeOwner(path, member);
  if (member.type !== "symlink") {
    const mode = policy.specialModes === "keep" ? member.mode : member.mode & 0o777;
    await writingStep(member.name, "given its mode", chmod(path, mode));
  }
  await writingStep(member.name, "given its time", utimes(path, new Date(), timeOf(member)));
}

async function changeOwner(path: string, { name, uid, gid }: TarMember): Promise<void> {
  try {
    await chown(path, uid, gid);
  } catch (error) {
    if (!isErrno(error)) throw error;
    const message = `${quoteName(name)} cannot be given to user ${uid} and group ${gid}: ${error.code}`;
    throw new KitError("E_ARCHIVE_OWNER", message, { cause: error });
  }
}

/** Seconds in a double, exact to a quarter of a microsecond: as text, as Node takes a number below 0 for "now". */
function timeOf({ name, mtimeNs }: TarMember): string {
  if (mtimeNs === undefined) throw refuseFormat(`${quoteName(name)} has a time that is none`);
  return String(Number(mtimeNs) / 1e9);
}
