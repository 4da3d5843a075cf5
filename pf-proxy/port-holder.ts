/**
 * Which process listens on a TCP port of this machine: /proc/net/tcp and tcp6 give the inode of the listening socket,
 * the descriptors under /proc give the process that has it open. Other users' processes stay unseen without root.
 */
import { readdir, readFile, readlink } from "node:fs/promises";

/** State of a listening socket in /proc/net/tcp. */
const LISTEN = "0A";

/** @returns pid and name such as `4711 (nginx)`, or undefined where it cannot be told. */
export async function findPortHolder(port: number): Promise<string | undefined> {
  const inodes = await listeningInodes(port);
  if (inodes.size === 0) return undefined;
  for (const pid of await readdir("/proc").catch(() => [])) {
    if (!/^[0-9]+$/.test(pid) || !(await hasSocket(pid, inodes))) continue;
    const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    return `${pid} (${name.trim()})`;
  }
  return undefined;
}

async function listeningInodes(port: number): Promise<ReadonlySet<string>> {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  const inodes = new Set<string>();
  for (const table of ["tcp", "tcp6"]) {
    const text = await readFile(`/proc/net/${table}`, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      const [, local = "", , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === LISTEN && local.endsWith(`:${wanted}`) && inode !== undefined)
        inodes.add(`socket:[${inode}]`);
    }
  }
  return inodes;
}

async function hasSocket(pid: string, inodes: ReadonlySet<string>): Promise<boolean> {
  for (const descriptor of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => "");
    if (inodes.has(target)) return true;
  }
  return false;
}
