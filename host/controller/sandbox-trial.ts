/** Starts the smallest enclave there can be, as `up` would, and ends it: what the machine forbids shows by its own error. */
import { chown, copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { RUNTIME } from "../../wire/runtime-layout.ts";
import { chooseIdMap, hostRootUid } from "../backends/local/id-map.ts";
import { LocalMachine } from "../backends/local/local-machine.ts";
import type { Toolkit } from "./toolkit.ts";

const MEMORY_BYTES = 64 * 1024 ** 2;
const TMPFS_BYTES = 16 * 1024 ** 2;

/** @throws E_HOST_USER_NAMESPACES, E_BACKEND_LAUNCH, E_DISK_FULL, the signal's reason */
export async function trySandbox({ nativeDir, caller }: Toolkit, signal: AbortSignal): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "doctor-"));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(async () => await rm(directory, { recursive: true, force: true }));
  const map = await chooseIdMap(caller);
  const rootUid = hostRootUid(map, caller.uid);
  const machine = cleanup.use(
    await LocalMachine.open({
      name: "doctor",
      plan: {
        map,
        tree: await writeTree(join(directory, "tree"), join(nativeDir, "init"), rootUid),
        rootUid,
        hostBinds: [],
        tmpfsBytes: TMPFS_BYTES,
        memoryBytes: MEMORY_BYTES,
        cpus: 1,
      },
      launcher: join(nativeDir, "launcher"),
      vsockDirectory: join(directory, "vsock"),
      scratchDirectory: join(directory, "scratch"),
      signal,
    }),
  );
  machine.console.resume();
  await machine.start();
}

/** A root file system with init alone. @returns `tree` */
async function writeTree(tree: string, init: string, rootUid: number): Promise<string> {
  const target = join(tree, RUNTIME.init);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(init, target);
  for (let path = target; path.length >= tree.length; path = dirname(path)) {
    if (rootUid !== process.getuid?.()) await chown(path, rootUid, rootUid);
  }
  return tree;
}
