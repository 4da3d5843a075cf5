/**
 * Which form of vsock this enclave has. init decides: the local backend's launcher passes a directory of Unix sockets
 * down as a descriptor; a kernel passes nothing, and vsock is AF_VSOCK. No setting has a say.
 */
import { stat } from "node:fs/promises";

/** What has the number otherwise is Node's own, and no directory. */
export async function isDirectory(fd: number): Promise<boolean> {
  const status = await stat(`/proc/self/fd/${fd}`).catch(() => undefined);
  return status?.isDirectory() ?? false;
}
