/** `pipeline build`: the lock of an enclave.yaml, and from it the enclave image file. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { ADDON_FLAGS, COMPILER_FLAGS } from "../../native/build.ts";
import { openBlobStore } from "../../rbuilds/blob-store.ts";
import type { BuiltImage } from "../../rbuilds/built-image.ts";
import {
  assembleEnclaveImage,
  buildEnclaveImage,
  type EnclaveImage,
  type ImageOptions,
} from "../../rbuilds/image/build-image.ts";
import { encodeProvenance } from "../../rbuilds/image/provenance.ts";
import { digestToolkit, type ToolkitFiles } from "../../rbuilds/image/toolkit-files.ts";
import { type EnclaveLock, lockDigest } from "../../rbuilds/lock/enclave-lock.ts";
import { compareLocks } from "../../rbuilds/lock/lock-difference.ts";
import { lockPath, readLockFile, requireCurrent, writeLockFile } from "../../rbuilds/lock/lock-file.ts";
import { lockOwnParts, makeLock } from "../../rbuilds/lock/make-lock.ts";
import { packageReporter } from "../../rbuilds/package-report.ts";
import type { SandboxIds } from "../../rbuilds/toolchain/build-sandbox.ts";
import { chooseIdMap, idMapArguments, idMapKey } from "../backends/local/id-map.ts";
import type { EnclaveSpec } from "../config/enclave-spec.ts";
import { VERSION } from "../version.ts";
import { assembleRequest, bundles } from "./image-build.ts";
import type { Toolkit } from "./toolkit.ts";

export interface LockOptions {
  readonly spec: EnclaveSpec;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

export interface FileBuildOptions extends LockOptions {
  readonly lock: EnclaveLock;
  /** Where the image goes. */
  readonly output: string;
  /** Compilers at once. */
  readonly jobs: number;
  readonly signing?: { readonly certificatePem: string; readonly privateKeyPem: string } | undefined;
}

export interface BuiltFile extends EnclaveImage {
  /** Bytes of the statement that belongs beside the image. */
  readonly provenance: string;
}

/** The lock of the project as its file has it. @throws E_LOCK_STALE, E_LOCK_INVALID; undefined where there is none */
export async function readCurrentLock(
  toolkit: Toolkit,
  { spec, signal }: LockOptions,
): Promise<EnclaveLock | undefined> {
  const path = lockPath(spec.file);
  const lock = await readLockFile(path);
  if (lock === undefined) return undefined;
  const request = { image: spec.image, toolkit: await toolkitDigests(toolkit, signal) };
  const now = await lockOwnParts(request, lock, { architecture: toolkit.architecture, signal });
  requireCurrent(path, lock, now);
  return lock;
}

/**
 * For `up`, which is for work in progress: the packages of the project's lock as long as the enclave.yaml asks for the
 * same ones, with whatever toolkit this is. A lock is written where there is none, and never changed.
 * @throws E_LOCK_INVALID, what makeLock throws
 */
export async function openWorkingLock(toolkit: Toolkit, options: LockOptions): Promise<EnclaveLock> {
  const { spec, signal } = options;
  const lock = await readLockFile(lockPath(spec.file));
  if (lock === undefined) return await updateLock(toolkit, options);
  const request = { image: spec.image, toolkit: await toolkitDigests(toolkit, signal) };
  const now = await lockOwnParts(request, lock, { architecture: toolkit.architecture, signal });
  const isOtherToolkit = compareLocks({ ...lock, toolkit: now.toolkit }, now).length === 0;
  return isOtherToolkit ? now : await resolveLock(toolkit, options);
}

/** Resolves everything to what it is now, and writes the file. @throws what makeLock throws */
export async function updateLock(toolkit: Toolkit, options: LockOptions): Promise<EnclaveLock> {
  const lock = await resolveLock(toolkit, options);
  await writeLockFile(lockPath(options.spec.file), lock);
  return lock;
}

async function resolveLock(toolkit: Toolkit, options: LockOptions): Promise<EnclaveLock> {
  const { spec, signal, onProgress } = options;
  const { architecture, cacheDir, proxies } = toolkit;
  return await makeLock(
    { image: spec.image, toolkit: await toolkitDigests(toolkit, signal) },
    {
      architecture,
      cacheDir,
      signal,
      sources: spec.image.sources,
      system: { proxies },
      onProgress: packageReporter(onProgress),
    },
  );
}

/** @throws what buildEnclaveImage throws */
export async function buildImageFile(toolkit: Toolkit, options: FileBuildOptions): Promise<BuiltFile> {
  const { spec, lock, output, signing } = options;
  const { mode, attestation } = spec;
  const request = {
    assemble: assembleRequest(spec, lockDigest(lock)),
    lock,
    mode,
    attestation,
    signing,
    output,
  };
  const image = await buildEnclaveImage(request, await imageOptions(toolkit, options));
  const configuration = await readFile(spec.file);
  const configurationDigest = createHash("sha256").update(configuration).digest("hex");
  const provenance = encodeProvenance({ image, lock, configurationDigest, toolkitVersion: VERSION });
  return { ...image, provenance };
}

/** The files of the image that `build` would make now, without making it. @throws as buildImageFile */
export async function assembleForImage(
  toolkit: Toolkit,
  options: Omit<FileBuildOptions, "output">,
): Promise<BuiltImage> {
  const { spec, lock, signing } = options;
  const { mode, attestation } = spec;
  const request = { assemble: assembleRequest(spec, lockDigest(lock)), lock, mode, attestation, signing };
  return await assembleEnclaveImage(request, await imageOptions(toolkit, options));
}

async function imageOptions(
  toolkit: Toolkit,
  options: Omit<FileBuildOptions, "output">,
): Promise<ImageOptions> {
  const { cacheDir, stateDir, architecture, proxies, nativeDir } = toolkit;
  return {
    cacheDir,
    lockDir: join(stateDir, "locks"),
    architecture,
    proxies,
    toolkit: toolkitFiles(toolkit),
    launcher: join(nativeDir, "launcher"),
    hasher: join(toolkit.distDir, "eif-hasher.js"),
    ids: await sandboxIds(toolkit),
    jobs: options.jobs,
    signal: options.signal,
    onProgress: options.onProgress,
  };
}

/** Root needs ids that are nobody's on this machine; an ordinary user is root of the sandbox with the one that he has. */
async function sandboxIds({ caller }: Toolkit): Promise<SandboxIds> {
  const map = await chooseIdMap(caller);
  if (map.kind !== "root-range")
    return { owners: { kind: "single" }, mapArguments: ["--map", "self"], key: `uid-${caller.uid}` };
  const { base, count } = map;
  return {
    owners: { kind: "shifted", base, count },
    mapArguments: idMapArguments(map),
    key: idMapKey(map),
  };
}

function toolkitFiles(toolkit: Toolkit): ToolkitFiles {
  return {
    version: VERSION,
    runtime: bundles(toolkit),
    sourceDir: toolkit.sourceDir,
    flags: COMPILER_FLAGS,
    addonFlags: ADDON_FLAGS,
    nodeHeaders: join(toolkit.nativeDir, "node-headers"),
    kernelConfig: join(toolkit.sourceDir, "kernel", "x86_64.config"),
  };
}

async function toolkitDigests(toolkit: Toolkit, signal: AbortSignal): Promise<Record<string, string>> {
  const { cacheDir } = toolkit;
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  return await digestToolkit(toolkitFiles(toolkit), { blobs, cacheDir, signal });
}
