/**
 * From the inputs of a lock to an enclave image file:
 *
 *   toolchain -> programs, Node without its symbols, kernel      compiled in a sandbox, cached by content
 *   packages, files of the project, programs -> manifest         rbuilds/assemble.ts
 *   manifest -> two ramdisks -> EIF with its measurements        rbuilds/ramdisk, rbuilds/eif
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import type { EifMetadata } from "../../wire/eif/metadata.ts";
import { MAX_NEWC_NUMBER } from "../../wire/newc/newc-header.ts";
import { type AssembleOptions, assembleImage, type AssembleRequest } from "../assemble.ts";
import { type BlobStore, openBlobStore } from "../blob-store.ts";
import type { BuiltImage } from "../built-image.ts";
import { writeEif, type WrittenEif } from "../eif/write-eif.ts";
import { type EnclaveKernel, openEnclaveKernel } from "../kernel/enclave-kernel.ts";
import { type EnclaveLock, lockDigest } from "../lock/enclave-lock.ts";
import { decodeManifest } from "../manifest-file.ts";
import { packageReporter } from "../package-report.ts";
import { prepareBlob } from "../prepared-file.ts";
import { prepareApplicationRamdisk } from "../ramdisk/application-ramdisk.ts";
import { prepareBootRamdisk } from "../ramdisk/boot-ramdisk.ts";
import type { RuntimeFiles } from "../runtime.ts";
import { removeStaleFiles } from "../stale-files.ts";
import type { SandboxIds } from "../toolchain/build-sandbox.ts";
import type { CompileOptions } from "../toolchain/compile.ts";
import { openImagePrograms } from "../toolchain/programs.ts";
import { stripProgram } from "../toolchain/strip-program.ts";
import { openToolchain } from "../toolchain/toolchain.ts";
import type { ToolkitFiles } from "./toolkit-files.ts";

export interface ImageRequest {
  readonly assemble: AssembleRequest;
  readonly lock: EnclaveLock;
  readonly mode: string;
  readonly attestation: string;
  readonly signing?: { readonly certificatePem: string; readonly privateKeyPem: string } | undefined;
  /** Where the image goes. */
  readonly output: string;
}

export interface ImageOptions extends Omit<
  AssembleOptions,
  "runtime" | "packages" | "sources" | "maxFileBytes"
> {
  readonly toolkit: ToolkitFiles;
  readonly launcher: string;
  /** dist/eif-hasher.js */
  readonly hasher: string;
  readonly ids: SandboxIds;
  /** Compilers at once; changes nothing in the result. */
  readonly jobs: number;
}

export interface EnclaveImage extends WrittenEif {
  readonly name: string;
  readonly architecture: "x86_64" | "aarch64";
  readonly kernelVersion: string;
  /** SHA-256 of the manifest. */
  readonly manifestDigest: string;
  readonly warnings: readonly string[];
  /** The application's root file system, from which the image was made. */
  readonly assembled: BuiltImage;
}

interface Build extends ImageOptions {
  readonly request: ImageRequest;
  readonly blobs: BlobStore;
}

/** @throws E_LOCK_*, E_TOOLCHAIN_*, E_KERNEL_*, E_IMAGE_*, E_RAMDISK_*, E_EIF_*, E_DISK_FULL */
export async function buildEnclaveImage(request: ImageRequest, options: ImageOptions): Promise<EnclaveImage> {
  await removeStaleFiles({ cacheDir: options.cacheDir, outputDir: dirname(request.output) });
  const blobs = await openBlobStore(join(options.cacheDir, "blobs"));
  const build: Build = { ...options, request, blobs };
  const compiling = await openCompiler(build);
  const kernel = await openKernel(build, compiling);
  const image = await assemble(build, await openRuntime(build, compiling));
  const written = await writeImage(build, image, { kernel, init: image.init });
  return {
    ...written,
    name: request.assemble.hostname,
    architecture: ARCHITECTURES[options.architecture],
    kernelVersion: kernel.version,
    manifestDigest: image.digest,
    warnings: image.warnings,
    assembled: image,
  };
}

/** The application's files alone, as an image of this lock has them. @throws as buildEnclaveImage */
export async function assembleEnclaveImage(
  request: Omit<ImageRequest, "output">,
  options: ImageOptions,
): Promise<BuiltImage> {
  const blobs = await openBlobStore(join(options.cacheDir, "blobs"));
  const build: Build = { ...options, request: { ...request, output: "" }, blobs };
  return await assemble(build, await openRuntime(build, await openCompiler(build)));
}

const ARCHITECTURES = { amd64: "x86_64", arm64: "aarch64" } as const;

async function openCompiler(build: Build): Promise<CompileOptions> {
  const { request, onProgress, launcher, ids, cacheDir, blobs, signal } = build;
  const onPackages = onProgress === undefined ? undefined : packageReporter(onProgress);
  const packages = { ...packageOptions(build), onProgress: onPackages, ids };
  const toolchain = await openToolchain(request.lock.toolchain, packages);
  return { toolchain, launcher, ids, cacheDir, blobs, signal, onStep: onProgress };
}

function packageOptions({ architecture, cacheDir, blobs, signal, proxies, request }: Build) {
  const { sources } = request.assemble.image;
  return { architecture, cacheDir, blobs, signal, sources, system: { proxies } };
}

async function openKernel(build: Build, compiling: CompileOptions): Promise<EnclaveKernel> {
  const { lock, assemble: request } = build.request;
  return await openEnclaveKernel(
    {
      spec: request.image.kernel,
      source: lock.kernel.kind === "default" ? lock.kernel.source : undefined,
      fragmentPath: build.toolkit.kernelConfig,
      jobs: build.jobs,
    },
    { ...packageOptions(build), ...compiling },
  );
}

async function openRuntime(build: Build, compiling: CompileOptions): Promise<RuntimeFiles> {
  const { toolkit, blobs } = build;
  build.onProgress?.("compiling the programs of the image");
  const programs = await openImagePrograms(toolkit, compiling);
  const node = await stripProgram(toolkit.runtime.node, compiling);
  return {
    ...toolkit.runtime,
    node: blobs.path(node.digest),
    init: blobs.path(programs.init.digest),
    serviceExec: blobs.path(programs.serviceExec.digest),
    nsmDevice: blobs.path(programs.nsmDevice.digest),
    initctlProgram: blobs.path(programs.initctl.digest),
    addon: blobs.path(programs.addon.digest),
  };
}

interface AssembledImage extends BuiltImage {
  /** Path of init. */
  readonly init: string;
}

async function assemble(build: Build, runtime: RuntimeFiles): Promise<AssembledImage> {
  const { request } = build;
  const { sources } = request.assemble.image;
  const image = await assembleImage(request.assemble, {
    ...build,
    runtime,
    sources,
    packages: request.lock.packages,
    maxFileBytes: MAX_NEWC_NUMBER,
  });
  return { ...image, init: runtime.init };
}

interface Parts {
  readonly kernel: EnclaveKernel;
  readonly init: string;
}

async function writeImage(build: Build, image: AssembledImage, { kernel, init }: Parts): Promise<WrittenEif> {
  const { request, blobs, cacheDir, signal, onProgress } = build;
  onProgress?.("writing the ramdisks");
  const { compression } = kernel;
  const initBlob = await blobs.putFile(init);
  const boot = await prepareBootRamdisk({
    init: initBlob,
    modules: kernel.modules,
    compression,
    blobs,
    cacheDir,
    signal,
  });
  const application = await prepareApplicationRamdisk({
    manifest: decodeManifest(await readFile(image.manifestPath)),
    baseManifest: decodeManifest(await readFile(image.baseManifestPath)),
    compression,
    blobs,
    cacheDir,
    signal,
  });
  onProgress?.("writing the image");
  return await writeEif(
    {
      architecture: ARCHITECTURES[build.architecture],
      kernel: await prepareBlob(blobs, kernel.image),
      commandLine: kernel.commandLine,
      metadata: describeImage(build, image, kernel),
      ramdisks: [boot, application],
      ...(request.signing === undefined ? {} : { signing: request.signing }),
    },
    request.output,
    { hasher: build.hasher, signal },
  );
}

/** Nothing here depends on when or where the image was built. */
function describeImage(build: Build, image: BuiltImage, kernel: EnclaveKernel): EifMetadata {
  const { request, toolkit } = build;
  return {
    imageName: request.assemble.hostname,
    imageVersion: image.digest.slice(0, 12),
    buildMetadata: {
      buildTime: "1970-01-01T00:00:00Z",
      buildTool: "enclave-toolkit",
      buildToolVersion: toolkit.version,
      operatingSystem: "Linux",
      kernelVersion: kernel.version,
    },
    dockerInfo: null,
    customMetadata: {
      mode: request.mode,
      attestation: request.attestation,
      manifest: `sha256:${image.digest}`,
      lock: `sha256:${lockDigest(request.lock)}`,
      zstd: process.versions["zstd"] ?? "unknown",
    },
  };
}
