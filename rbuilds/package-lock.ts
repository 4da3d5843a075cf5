/**
 * The lock that `up` keeps in the state directory where the project commits none: packages are resolved once, and
 * every later build of the same list uses the same versions.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { writeFileAtomic } from "../core/atomic-file.ts";
import { isErrno, KitError } from "../core/errors.ts";
import { resolvePackages, type ResolveOptions } from "./apt.ts";
import { type LockedPackage, parseLockedPackages } from "./locked-package.ts";

const LOCK_VERSION = 1;
const MAX_LOCK_BYTES = 8 * 1024 * 1024;

export interface PackageLockRequest {
  readonly packages: readonly string[];
  /** Directory of the locks. */
  readonly directory: string;
  readonly resolve: ResolveOptions;
  /** Forget what was locked; used when a locked version is gone from the mirrors. */
  readonly renew?: boolean;
}

/** @throws E_LOCK_INVALID for a damaged lock, and what resolvePackages throws. */
export async function lockPackages(request: PackageLockRequest): Promise<readonly LockedPackage[]> {
  const path = join(request.directory, `${lockName(request)}.json`);
  const kept = request.renew === true ? undefined : await readLock(path);
  if (kept !== undefined) return kept;
  const packages = await resolvePackages(request.packages, request.resolve);
  await mkdir(dirname(path), { recursive: true });
  await writeFileAtomic(path, `${JSON.stringify({ version: LOCK_VERSION, packages }, undefined, 2)}\n`);
  return packages;
}

function lockName(request: PackageLockRequest): string {
  const { architecture, withBase = true } = request.resolve;
  const names = [...new Set(request.packages)].sort();
  return createHash("sha256")
    .update(JSON.stringify({ architecture, withBase, names }))
    .digest("hex")
    .slice(0, 32);
}

async function readLock(path: string): Promise<readonly LockedPackage[] | undefined> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  if (text.length > MAX_LOCK_BYTES) throw damaged(path, "it is too large");
  const value = parseJson(text, path);
  if (typeof value !== "object" || value === null || !("version" in value) || !("packages" in value)) {
    throw damaged(path, "it has no version or no packages");
  }
  if (value.version !== LOCK_VERSION) return undefined;
  return parseLockedPackages(value.packages);
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged(path, "it is not JSON", error);
  }
}

function damaged(path: string, why: string, cause?: unknown): KitError {
  return new KitError("E_LOCK_INVALID", `${path}: ${why}`, {
    cause,
    hint: "Remove the file; packages are resolved again.",
  });
}
