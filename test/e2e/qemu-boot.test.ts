import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { chooseAccelerator } from "../../host/backends/qemu/accelerator-probe.ts";
import { qemuArguments } from "../../host/backends/qemu/qemu-arguments.ts";
import { findQemu, type QemuProgram } from "../../host/backends/qemu/qemu-program.ts";
import { splitEif } from "../../host/backends/qemu/split-eif.ts";
import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { ARCHITECTURE } from "../fixtures/rbuilds/debian-testbed.ts";
import { DEFAULT_CACHE, type ImageBed, openImageBed } from "./image-testbed.ts";

const FIRST_BUILD_MS = 2_400_000;
const BOOT_MS = 120_000;

let bed: ImageBed;
let directory = "";
let eif = "";
let qemu: QemuProgram;

beforeAll(async () => {
  bed = await openImageBed();
  directory = await mkdtemp(join(tmpdir(), "boot-"));
  eif = (await bed.build(await bed.project("hello"), bed.path("hello.eif"))).eif;
  // An empty PATH: Debian's own, unpacked, so that every machine tests the same one.
  qemu = await findQemuIn("");
}, FIRST_BUILD_MS);
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

describe("the very image, booted by QEMU", () => {
  test(
    "starts our kernel, which unpacks both ramdisks and runs init",
    async () => {
      const { kernel, ramdisk, description } = await splitEif(eif, directory);
      const vm = {
        accelerator: "tcg" as const,
        cpus: 2,
        memoryMib: 768,
        kernel,
        ramdisk,
        commandLine: description.commandLine,
        vsock: undefined,
        dataFolders: qemu.dataFolders,
      };
      const { status, output } = await runQemu(qemuArguments(vm));
      expect(output).toContain("Run /init as init process");
      expect(output).not.toContain("Initramfs unpacking failed");
      // Without a vsock device there is nobody to beat the heart for; init says so, and ends the machine in order.
      expect(output).toMatch(/init: no heartbeat: E/);
      expect(output).toContain("reboot: machine restart");
      expect(status).toBe(0);
    },
    BOOT_MS,
  );
});

describe("the accelerator", () => {
  test("is TCG where there is no KVM device, or one that gives no progress", async () => {
    const absent = { qemu, kernel: "", cacheDir: directory, device: join(directory, "kvm") };
    expect(await chooseAccelerator(absent)).toBe("tcg");
    // A file that opens is no KVM: QEMU cannot use the machine's own either with a kernel that is none.
    await writeFile(join(directory, "kvm"), "");
    const garbage = join(directory, "garbage");
    await writeFile(garbage, "no kernel");
    expect(await chooseAccelerator({ ...absent, kernel: garbage })).toBe("tcg");
  });
});

async function findQemuIn(searchPath: string): Promise<QemuProgram> {
  const blobs = await openBlobStore(join(DEFAULT_CACHE, "blobs"));
  return await findQemu({ architecture: ARCHITECTURE, cacheDir: DEFAULT_CACHE, blobs, searchPath });
}

async function runQemu(
  words: readonly string[],
): Promise<{ readonly status: number | null; readonly output: string }> {
  const [program, ...first] = qemu.command;
  const child = spawn(program, [...first, ...words], {
    env: qemu.environment,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: BOOT_MS,
    killSignal: "SIGKILL",
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output = (output + text).slice(-200_000)));
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once("error", reject);
  child.once("close", resolve);
  return { status: await promise, output };
}
