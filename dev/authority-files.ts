/** Files that nobody but the caller may read or change. What others could have written or read is refused, not mended. */
import { randomBytes } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { link, lstat, mkdir, open, rename, rm } from "node:fs/promises";

import { isErrno, KitError } from "../core/errors.ts";

const MAX_FILE_BYTES = 16 * 1024;
const OTHERS = 0o077;
const NOT_ALLOWED = ["EACCES", "EPERM", "EROFS"];

/** 0700. @throws E_DEV_AUTHORITY_ACCESS, E_DEV_AUTHORITY_FILE */
export async function makeOwnDirectory(directory: string): Promise<void> {
  await named(directory, async () => {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // Through a link too: what counts is whose the folder is in the end.
    await using handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY); // oxlint-disable-line no-bitwise
    assertOwn(await handle.stat(), directory);
  });
}

/** @returns undefined: there is none. @throws E_DEV_AUTHORITY_ACCESS, E_DEV_AUTHORITY_FILE */
export async function readOwnFile(path: string): Promise<string | undefined> {
  return await named(path, async () => {
    try {
      // A pipe in its place would be waited for.
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK; // oxlint-disable-line no-bitwise
      await using file = await open(path, flags);
      const status = await file.stat();
      if (!status.isFile()) throw broken(path, "it is no file");
      assertOwn(status, path);
      if (status.size > MAX_FILE_BYTES) throw broken(path, `it has ${status.size} bytes`);
      return await file.readFile("utf8");
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw error;
    }
  });
}

/** Whole or not at all. @returns false: somebody else made it first. @throws E_DEV_AUTHORITY_ACCESS, E_DEV_AUTHORITY_FILE */
export async function createOwnFile(path: string, text: string): Promise<boolean> {
  return await withTemporary(path, text, async (temporary) => {
    try {
      // Unlike a rename it fails where the name is taken.
      await link(temporary, path);
      return true;
    } catch (error) {
      if (isErrno(error, "EEXIST")) return false;
      throw error;
    }
  });
}

/** Whatever was there before. @throws E_DEV_AUTHORITY_ACCESS, E_DEV_AUTHORITY_FILE */
export async function replaceOwnFile(path: string, text: string): Promise<void> {
  await withTemporary(path, text, async (temporary) => await rename(temporary, path));
}

/** True where `path` is a file of the caller that holds `text`, and that nobody else can change. */
export async function holdsText(path: string, text: string): Promise<boolean> {
  const status = await lstat(path).catch(() => undefined);
  if (status?.isFile() !== true || !isOwn(status) || status.size > MAX_FILE_BYTES) return false;
  return (await readOwnFile(path)) === text;
}

async function withTemporary<T>(
  path: string,
  text: string,
  use: (temporary: string) => Promise<T>,
): Promise<T> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  return await named(path, async () => {
    try {
      await writeFlushed(temporary, text);
      return await use(temporary);
    } finally {
      await rm(temporary, { force: true });
    }
  });
}

async function writeFlushed(path: string, text: string): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await file.writeFile(text);
  await file.sync();
}

function isOwn({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & OTHERS) === 0; // oxlint-disable-line no-bitwise
}

function assertOwn(status: Stats, path: string): void {
  if (isOwn(status)) return;
  const rights = (status.mode & 0o777).toString(8).padStart(3, "0"); // oxlint-disable-line no-bitwise
  const details = { path, uid: status.uid, mode: rights };
  const message = `${path} belongs to uid ${status.uid} and has mode ${rights}: others could sign with it`;
  throw new KitError("E_DEV_AUTHORITY_ACCESS", message, { details });
}

export function broken(path: string, why: string, cause?: unknown): KitError {
  return new KitError("E_DEV_AUTHORITY_FILE", `${path} cannot be used: ${why}`, { cause });
}

/** What the system says of `path`, in our words. A full disk has its own. */
async function named<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KitError || !isErrno(error) || error.code === "ENOSPC") throw error;
    if (!NOT_ALLOWED.includes(error.code ?? "")) throw broken(path, error.code ?? error.message, error);
    throw new KitError("E_DEV_AUTHORITY_ACCESS", `${path} is not for this process (${error.code})`, { cause: error }); // prettier-ignore
  }
}
