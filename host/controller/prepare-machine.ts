/** The image of an enclave.yaml as a backend needs it, ready for a runner. */
import { copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { decodeManifest } from "../../rbuilds/manifest-file.ts";
import type { BuiltImage } from "../../rbuilds/built-image.ts";
import { packageReporter } from "../../rbuilds/package-report.ts";
import { planLocal } from "../backends/local/local-plan.ts";
import type { BackendName, MachinePlan } from "../backends/machine-plan.ts";
import { planNitro } from "../backends/nitro/nitro-plan.ts";
import { chooseAccelerator } from "../backends/qemu/accelerator-probe.ts";
import { checkMemory, countCpus, ramdiskBytes, unpackedBytes } from "../backends/qemu/qemu-plan.ts";
import { findQemu, type QemuProgram } from "../backends/qemu/qemu-program.ts";
import { splitEif } from "../backends/qemu/split-eif.ts";
import type { EnclaveSpec } from "../config/enclave-spec.ts";
import { assembleForImage, buildImageFile, openWorkingLock } from "./enclave-image.ts";
import { buildImage } from "./image-build.ts";
import type { Toolkit } from "./toolkit.ts";

export interface AssembleOptions {
  readonly spec: EnclaveSpec;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

export interface PrepareOptions extends AssembleOptions {
  /** Of the enclave. */
  readonly name: string;
  /** On the hardware: readable console, and measurements of zeros. */
  readonly debug: boolean;
}

/** Disposed of once it is placed, or is not to be. */
export interface PreparedMachine extends AsyncDisposable {
  readonly image: BuiltImage;
  readonly accelerator: "kvm" | "tcg" | null;
  /** Puts what the runner will own into the enclave's directory. */
  place(directory: string): Promise<MachinePlan>;
}

export async function prepareMachine(
  toolkit: Toolkit,
  backend: BackendName,
  options: PrepareOptions,
): Promise<PreparedMachine> {
  if (backend === "local") return await prepareLocal(toolkit, options);
  return backend === "qemu" ? await prepareQemu(toolkit, options) : await prepareNitro(toolkit, options);
}

async function prepareLocal(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { memoryBytes, cpus } = options.spec.resources;
  const image = await buildImage(toolkit, options);
  const launcher = join(toolkit.nativeDir, "launcher");
  const plan = await planLocal({
    image,
    memoryBytes,
    cpus,
    cacheDir: toolkit.cacheDir,
    caller: toolkit.caller,
    programs: { node: toolkit.node, launcher, treeProgram: join(toolkit.distDir, "tree.js") },
    signal: options.signal,
    onProgress: options.onProgress,
  });
  return {
    image,
    accelerator: null,
    place: async () => await Promise.resolve({ backend: "local", plan, launcher }),
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
}

/** The files that the enclave.yaml stands for now, made as the backend's images are. */
export async function assembleFor(
  toolkit: Toolkit,
  backend: BackendName,
  options: AssembleOptions,
): Promise<BuiltImage> {
  if (backend === "local") return await buildImage(toolkit, options);
  const lock = await openWorkingLock(toolkit, options);
  return await assembleForImage(toolkit, { ...options, lock, jobs: availableParallelism() });
}

interface BuiltFor extends AsyncDisposable {
  readonly eif: string;
  readonly image: BuiltImage;
  /** Folder that goes when this is disposed of. */
  readonly directory: string;
}

async function buildFor(toolkit: Toolkit, options: PrepareOptions): Promise<BuiltFor> {
  await using owned = new AsyncDisposableStack();
  const lock = await openWorkingLock(toolkit, options);
  await mkdir(toolkit.cacheDir, { recursive: true });
  const directory = await mkdtemp(join(toolkit.cacheDir, "eif-"));
  owned.defer(async () => await rm(directory, { recursive: true, force: true }));
  const output = join(directory, "image.eif");
  const built = await buildImageFile(toolkit, { ...options, lock, output, jobs: availableParallelism() });
  const files = owned.move();
  return {
    eif: output,
    image: built.assembled,
    directory,
    [Symbol.asyncDispose]: async () => await files.disposeAsync(),
  };
}

/** @throws E_QEMU_*, and what building an image file throws */
async function prepareQemu(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { spec, signal, onProgress } = options;
  await using owned = new AsyncDisposableStack();
  const { eif, image, directory } = owned.use(await buildFor(toolkit, options));
  const split = await splitEif(eif, directory, signal);
  const manifest = decodeManifest(await readFile(image.manifestPath));
  const sizes = { ramdiskBytes: ramdiskBytes(split), unpackedBytes: unpackedBytes(manifest) };
  const memoryMib = checkMemory(spec.resources, sizes);
  const qemu = await openQemu(toolkit, options);
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

/** @throws E_NITRO_*, and what building an image file throws */
async function prepareNitro(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { spec, name, debug } = options;
  await using owned = new AsyncDisposableStack();
  const { eif, image } = owned.use(await buildFor(toolkit, options));
  const { searchPath } = toolkit.caller;
  const plan = await planNitro({ spec, name, eifPath: eif, searchPath, debug });
  const files = owned.move();
  return {
    image,
    accelerator: null,
    place: async (boot) => {
      const eifPath = join(boot, "image.eif");
      await mkdir(boot, { recursive: true, mode: 0o700 });
      await copyFile(eif, eifPath);
      const addon = join(toolkit.nativeDir, "vsock.node");
      return { backend: "nitro", plan: { ...plan, eifPath }, addon };
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
