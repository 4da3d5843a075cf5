import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";

import { openBlobStore } from "../../../rbuilds/blob-store.ts";
import { decodeManifest } from "../../../rbuilds/manifest-file.ts";
import { packageReporter } from "../../../rbuilds/package-report.ts";
import { chooseAccelerator } from "../../backends/qemu/accelerator-probe.ts";
import { checkMemory, countCpus, ramdiskBytes, unpackedBytes } from "../../backends/qemu/qemu-plan.ts";
import { findQemu, type QemuProgram } from "../../backends/qemu/qemu-program.ts";
import { splitEif } from "../../backends/qemu/split-eif.ts";
import type { Toolkit } from "../toolkit.ts";
import { buildForMachine } from "./image-for-machine.ts";
import type { PreparedMachine, PrepareOptions } from "./prepared-machine.ts";

/** @throws E_QEMU_*, and what building an image file throws */
export async function prepareQemu(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { spec, signal, onProgress } = options;
  // First, so that a machine that has none and can have none is told before minutes of building.
  const qemu = await openQemu(toolkit, options);
  await using owned = new AsyncDisposableStack();
  const { eif, image, directory } = owned.use(await buildForMachine(toolkit, options));
  const split = await splitEif(eif, directory, signal);
  const manifest = decodeManifest(await readFile(image.manifestPath));
  const sizes = { ramdiskBytes: ramdiskBytes(split), unpackedBytes: unpackedBytes(manifest) };
  const memoryMib = checkMemory(spec.resources, sizes);
  onProgress("looking for KVM");
  const { kernel, ramdisk, description } = split;
  const accelerator = await chooseAccelerator({ qemu, kernel, cacheDir: toolkit.cacheDir, signal });
  const plan = {
    qemu,
    accelerator,
    cpus: countCpus(spec.resources),
    memoryMib,
    commandLine: description.commandLine,
    launcher: join(toolkit.nativeDir, "launcher"),
    addon: join(toolkit.nativeDir, "vsock.node"),
  };
  const files = owned.move();
  return {
    image,
    registers: { kind: "image", pcrs: description.pcrs },
    accelerator,
    place: async (boot) => {
      const placed = { kernel: join(boot, "kernel"), ramdisk: join(boot, "ramdisk") };
      await mkdir(boot, { recursive: true, mode: 0o700 });
      await copyFile(kernel, placed.kernel);
      await copyFile(ramdisk, placed.ramdisk);
      return { backend: "qemu", plan: { ...plan, ...placed } };
    },
    [Symbol.asyncDispose]: async () => await files.disposeAsync(),
  };
}

async function openQemu(
  { architecture, cacheDir, caller, proxies }: Toolkit,
  { spec, signal, onProgress }: PrepareOptions,
): Promise<QemuProgram> {
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  return await findQemu({
    architecture,
    cacheDir,
    blobs,
    signal,
    sources: spec.image.sources,
    system: { proxies },
    onProgress: packageReporter(onProgress),
    searchPath: caller.searchPath,
  });
}
