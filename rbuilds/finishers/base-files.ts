/**
 * The files and directories that base-files' script makes on a new system, and the few that a container needs and an
 * installer would write. /etc/hostname belongs to the name of the enclave and comes later; /etc/resolv.conf is absent,
 * since an enclave has no resolver but the one its egress rules give it.
 */
import {
  entryAt,
  ensureDirectory,
  type FinishContext,
  readText,
  writeLink,
  writeText,
} from "./finish-context.ts";
import type { FileTree } from "../file-tree.ts";

/** Defaults below /usr/share/base-files, copied where nothing is there. */
const COPIED = [
  ["dot.profile", "/root/.profile"],
  ["dot.bashrc", "/root/.bashrc"],
  ["profile", "/etc/profile"],
  ["motd", "/etc/motd"],
  ["nsswitch.conf", "/etc/nsswitch.conf"],
] as const;

const DIRECTORIES = [
  ["/boot", 0o755],
  ["/dev", 0o755],
  ["/etc/opt", 0o755],
  ["/home", 0o755],
  ["/media", 0o755],
  ["/mnt", 0o755],
  ["/opt", 0o755],
  ["/proc", 0o555],
  ["/root", 0o700],
  ["/run", 0o755],
  ["/run/lock", 0o1777],
  ["/srv", 0o755],
  ["/sys", 0o555],
  ["/tmp", 0o1777],
  ["/usr/local/bin", 0o755],
  ["/usr/local/etc", 0o755],
  ["/usr/local/games", 0o755],
  ["/usr/local/include", 0o755],
  ["/usr/local/lib", 0o755],
  ["/usr/local/sbin", 0o755],
  ["/usr/local/share", 0o755],
  ["/usr/local/src", 0o755],
  ["/var/log", 0o755],
  ["/var/opt", 0o755],
  ["/var/spool", 0o755],
  ["/var/tmp", 0o1777],
] as const;

const LINKS = [
  ["/var/run", "/run"],
  ["/var/lock", "/run/lock"],
  ["/var/spool/mail", "../mail"],
  ["/etc/localtime", "/usr/share/zoneinfo/Etc/UTC"],
] as const;

const HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
/** Group mail, utmp in Debian's masters. */
const MAIL_GID = 8;
const UTMP_GID = 43;

export async function finishBaseFiles(context: FinishContext): Promise<void> {
  const { tree } = context;
  for (const [path, mode] of DIRECTORIES) setDirectory(tree, path, mode);
  for (const path of ["/var/run", "/var/lock"]) removeEmptyDirectory(tree, path);
  for (const [path, target] of LINKS) if (tree.get(path) === undefined) writeLink(tree, path, target);
  ensureDirectory(tree, "/var/mail", { mode: 0o2775, gid: MAIL_GID });
  for (const [name, path] of COPIED) await copyDefault(context, name, path);
  await writeDefaults(context);
}

/** The mode counts even where a package brought the directory: the first package may have shipped another. */
function setDirectory(tree: FileTree, path: string, mode: number): void {
  const entry = tree.get(path);
  if (entry?.type === "directory") tree.set({ ...entry, mode });
  else ensureDirectory(tree, path, { mode });
}

function removeEmptyDirectory(tree: FileTree, path: string): void {
  if (tree.get(path)?.type === "directory" && tree.children(path).length === 0) tree.remove(path);
}

async function copyDefault(context: FinishContext, name: string, path: string): Promise<void> {
  if (entryAt(context.tree, path) !== undefined) return;
  const text = await readText(context, `/usr/share/base-files/${name}`);
  if (text !== undefined) await writeText(context, path, text);
}

async function writeDefaults(context: FinishContext): Promise<void> {
  const defaults = [
    ["/etc/hosts", HOSTS, { mode: 0o644 }],
    ["/etc/machine-id", "", { mode: 0o444 }],
    ["/etc/fstab", "", { mode: 0o644 }],
    ["/var/log/wtmp", "", { mode: 0o664, gid: UTMP_GID }],
    ["/var/log/btmp", "", { mode: 0o660, gid: UTMP_GID }],
    ["/var/log/lastlog", "", { mode: 0o664, gid: UTMP_GID }],
    ["/etc/nsswitch.conf", NSSWITCH, { mode: 0o644 }],
  ] as const;
  for (const [path, text, attributes] of defaults) {
    if (entryAt(context.tree, path) === undefined) await writeText(context, path, text, attributes);
  }
  if (context.tree.get("/etc/dpkg/origins/debian") !== undefined) {
    writeLink(context.tree, "/etc/dpkg/origins/default", "debian");
  }
}

/** For images without libc-bin, which has the file in newer releases. */
const NSSWITCH = `passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n`;
