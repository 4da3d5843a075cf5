import { chown, copyFile, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { chooseIdMap, hostRootUid } from "../../host/backends/local/id-map.ts";
import { awaitLaunch } from "../../host/backends/local/launch-report.ts";
import { LocalMachine } from "../../host/backends/local/local-machine.ts";
import { RUNTIME } from "../../wire/runtime-layout.ts";
import { ROOT } from "../e2e/testbed.ts";

const NATIVE = join(ROOT, "native", "build");
const uid = process.getuid?.() ?? 0;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "lm-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A machine around a tree that holds init alone: it ends by itself, since there is no supervisor to start. */
async function openMachine(launcher = join(NATIVE, "launcher"), withInit = true): Promise<LocalMachine> {
  const map = await chooseIdMap({ uid, userName: "", searchPath: "" });
  const rootUid = hostRootUid(map, uid);
  const init = join(directory, "tree", RUNTIME.init);
  await mkdir(dirname(init), { recursive: true });
  if (withInit) await copyFile(join(NATIVE, "init"), init);
  if (rootUid !== uid) {
    const paths = ["", "opt", "opt/enclave", ...(withInit ? ["opt/enclave/init"] : [])];
    for (const path of paths) await chown(join(directory, "tree", path), rootUid, rootUid);
  }
  return await LocalMachine.open({
    name: "lm",
    plan: {
      map,
      tree: join(directory, "tree"),
      rootUid,
      hostBinds: [],
      tmpfsBytes: 16 * 1024 ** 2,
      memoryBytes: 64 * 1024 ** 2,
      cpus: 1,
    },
    launcher,
    vsockDirectory: join(directory, "vsock"),
    scratchDirectory: join(directory, "scratch"),
    signal: new AbortController().signal,
  });
}

test("a machine starts, prints on its console, and its end is known", async () => {
  await using machine = await openMachine();
  const printed: string[] = [];
  machine.console.on("data", (chunk: Buffer) => printed.push(chunk.toString()));
  await machine.start();
  await machine.exited;
  expect(printed.join("")).toContain("init:");
});

test("closing a machine ends it and leaves nothing but what it was given", async () => {
  const machine = await openMachine();
  machine.console.resume();
  await machine.start();
  await machine[Symbol.asyncDispose]();
  await machine.exited;
  expect((await readdir(directory)).sort()).toEqual(["scratch", "tree"]);
});

test("a launcher that cannot be run is a coded refusal, and the machine can still be closed", async () => {
  await using machine = await openMachine(join(directory, "no-launcher"));
  await expect(machine.start()).rejects.toMatchObject({
    code: "E_BACKEND_LAUNCH",
    message: expect.stringContaining("no-launcher"),
  });
  expect(await machine.exited).toEqual({ status: null, signal: null });
});

test("an image without init is a coded refusal that names the step", async () => {
  await using machine = await openMachine(undefined, false);
  await expect(machine.start()).rejects.toMatchObject({
    code: "E_BACKEND_LAUNCH",
    message: expect.stringContaining("ENOENT"),
  });
});

describe("what the launcher reports", () => {
  test("nothing is a success", async () => {
    await expect(awaitLaunch(Readable.from([]))).resolves.toBeUndefined();
  });

  test.each([
    ["E userns 1 EPERM clone\n", "E_HOST_USER_NAMESPACES", /userns: EPERM: clone/],
    ["E mount_tmpfs 28 ENOSPC upper\n", "E_DISK_FULL", /mount_tmpfs/],
    ["E newuidmap 1 EPERM\n", "E_BACKEND_LAUNCH", /newuidmap/],
    ["E mount_proc 1 EPERM /proc\n", "E_BACKEND_LAUNCH", /mount_proc/],
    ["E mount_overlay 22 EINVAL /tree\n", "E_BACKEND_LAUNCH", /mount_overlay: EINVAL/],
    ["gibberish", "E_BACKEND_LAUNCH", /unknown/],
    ["x".repeat(10_000), "E_BACKEND_LAUNCH", /unknown/],
  ])("%j is refused with what to do", async (report, code, message) => {
    await expect(awaitLaunch(Readable.from([report]))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/./),
    });
  });
});
