/**
 * `base: host`, for development with the local backend only: a skeleton of our own, and the host's /usr bound
 * read-only over it at start. Nothing of the host is copied, so such an image has no meaning on another machine.
 */
import { lstat } from "node:fs/promises";

import { isErrno } from "../core/errors.ts";
import type { BlobStore } from "./blob-store.ts";
import type { FileTree } from "./file-tree.ts";

/** What programs of /usr need besides: the loader's cache, certificates, links of alternatives. */
const OPTIONAL_BINDS = ["/etc/ld.so.cache", "/etc/ssl", "/etc/ca-certificates", "/etc/alternatives"] as const;
const LINKS: Readonly<Record<string, string>> = {
  "/bin": "usr/bin",
  "/sbin": "usr/sbin",
  "/lib": "usr/lib",
  "/lib32": "usr/lib32",
  "/lib64": "usr/lib64",
};
const DIRECTORIES: Readonly<Record<string, number>> = {
  "/etc": 0o755, "/home": 0o755, "/root": 0o700, "/run": 0o755, "/tmp": 0o1777, "/usr": 0o755,
  "/var": 0o755, "/var/lib": 0o755, "/var/log": 0o755, "/var/tmp": 0o1777,
}; // prettier-ignore
const PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP = "root:x:0:\nnogroup:x:65534:\n";

/** Fills `tree` with the skeleton. @returns paths of the host to bind read-only at the same place. */
export async function addHostBase(tree: FileTree, blobs: BlobStore): Promise<readonly string[]> {
  for (const [path, mode] of Object.entries(DIRECTORIES))
    tree.set({ type: "directory", path, mode, uid: 0, gid: 0 });
  const binds = ["/usr"];
  for (const [path, target] of Object.entries(LINKS)) {
    const kind = await kindOf(path);
    if (kind === "link") tree.set({ type: "symlink", path, target, mode: 0o777, uid: 0, gid: 0 });
    if (kind !== "other") continue;
    // A host without merged /usr has programs there that /usr has not.
    tree.set({ type: "directory", path, mode: 0o755, uid: 0, gid: 0 });
    binds.push(path);
  }
  for (const [path, text] of [
    ["/etc/passwd", PASSWD],
    ["/etc/group", GROUP],
  ] as const) {
    tree.set({ type: "file", path, mode: 0o644, uid: 0, gid: 0, ...(await blobs.put(Buffer.from(text))) });
  }
  for (const path of OPTIONAL_BINDS) if ((await kindOf(path)) !== "absent") binds.push(path);
  return binds;
}

async function kindOf(path: string): Promise<"absent" | "link" | "other"> {
  try {
    return (await lstat(path)).isSymbolicLink() ? "link" : "other";
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "absent";
    throw error;
  }
}
