/** enclave.lock on disk. */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { writeFileAtomic } from "../../core/atomic-file.ts";
import { isErrno, KitError } from "../../core/errors.ts";
import { decodeLock, encodeLock, type EnclaveLock } from "./enclave-lock.ts";
import { compareLocks, renderChange } from "./lock-difference.ts";

const NAME = "enclave.lock";
const READABLE = 0o644;
const SHOWN_CHANGES = 5;

/** @param yaml path of the enclave.yaml */
export function lockPath(yaml: string): string {
  return join(dirname(yaml), NAME);
}

/** @returns undefined where there is none. @throws E_LOCK_INVALID */
export async function readLockFile(path: string): Promise<EnclaveLock | undefined> {
  try {
    return decodeLock(await readFile(path, "utf8"), path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

export async function writeLockFile(path: string, lock: EnclaveLock): Promise<void> {
  await writeFileAtomic(path, encodeLock(lock), { mode: READABLE });
}

/**
 * @param now the lock with the parts that project and toolkit decide as they are now
 * @throws E_LOCK_STALE naming what changed
 */
export function requireCurrent(path: string, lock: EnclaveLock, now: EnclaveLock): void {
  const changes = compareLocks(lock, now);
  if (changes.length === 0) return;
  const shown = changes.slice(0, SHOWN_CHANGES).map(renderChange);
  const more = changes.length > SHOWN_CHANGES ? `; and ${changes.length - SHOWN_CHANGES} more` : "";
  throw new KitError("E_LOCK_STALE", `${path} is for other inputs: ${shown.join("; ")}${more}`, {
    details: { changes },
  });
}
