import { createHash } from "node:crypto";
import { lstat, readdir, stat } from "node:fs/promises";

import { KitError } from "../core/errors.ts";

const MAX_FILES = 1_000_000;
const SLASH = Buffer.from("/");

/**
 * Names the present state of a file or directory by what the kernel says of every file below it (size, times, inode,
 * mode), without reading contents: it changes whenever the content might have changed.
 * @returns SHA-256, lower-case hex.
 * @throws E_IMAGE_TOO_MANY_FILES
 */
export async function fingerprintSource(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  let files = 0;
  // Names are bytes here: whether they can be names of an image is told by who copies them.
  const visit = async (current: Buffer, isTop: boolean): Promise<void> => {
    signal?.throwIfAborted();
    files += 1;
    if (files > MAX_FILES)
      throw new KitError("E_IMAGE_TOO_MANY_FILES", `${path} holds more than ${MAX_FILES} files`);
    // The top may be a link, which the build follows; links below are part of the image as they are.
    const options = { bigint: true } as const;
    const info = isTop ? await stat(current, options) : await lstat(current, options);
    hash.update(current);
    hash.update(`\0${info.mode} ${info.size} ${info.mtimeNs} ${info.ctimeNs} ${info.ino}\0`);
    if (!info.isDirectory()) return;
    const names = await readdir(current, { encoding: "buffer" });
    for (const name of names.sort((a, b) => Buffer.compare(a, b)))
      await visit(Buffer.concat([current, SLASH, name]), false);
  };
  await visit(Buffer.from(path), true);
  return hash.digest("hex");
}
