/** From a validated enclave.yaml to a root file system: what the local backend runs. */
import { join } from "node:path";

import { assembleImage, type AssembleRequest } from "../../rbuilds/assemble.ts";
import type { BuiltImage } from "../../rbuilds/built-image.ts";
import { lockPath, readLockFile } from "../../rbuilds/lock/lock-file.ts";
import type { LockedPackage } from "../../rbuilds/locked-package.ts";
import type { BundledFiles } from "../../rbuilds/runtime.ts";
import type { EnclaveSpec } from "../config/enclave-spec.ts";
import { toEnclaveConfig } from "../image/enclave-config.ts";
import { VERSION } from "../version.ts";
import type { Toolkit } from "./toolkit.ts";

export interface ImageBuildOptions {
  readonly spec: EnclaveSpec;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

/**
 * The image of an enclave.yaml, from the cache where nothing changed. Packages are those of an enclave.lock beside it,
 * where there is one for the same list.
 * @throws E_IMAGE_*, E_LOCK_*, E_CONFIG_*
 */
export async function buildImage(
  toolkit: Toolkit,
  { spec, signal, onProgress }: ImageBuildOptions,
): Promise<BuiltImage> {
  return await assembleImage(assembleRequest(spec, null), {
    cacheDir: toolkit.cacheDir,
    lockDir: join(toolkit.stateDir, "locks"),
    architecture: toolkit.architecture,
    proxies: toolkit.proxies,
    runtime: {
      ...bundles(toolkit),
      init: join(toolkit.nativeDir, "init"),
      serviceExec: join(toolkit.nativeDir, "service-exec"),
      nsmDevice: join(toolkit.nativeDir, "nsm-device"),
      initctlProgram: join(toolkit.nativeDir, "initctl"),
      addon: join(toolkit.nativeDir, "vsock.node"),
    },
    packages: await packagesOfLock(spec, toolkit),
    sources: spec.image.sources,
    signal,
    onProgress,
  });
}

/** @param lock SHA-256 of the lock that every input comes from, null where there is none */
export function assembleRequest(spec: EnclaveSpec, lock: string | null): AssembleRequest {
  // Everything that may show in the configuration: a key that is left out here would be measured as it was before.
  const { file: _file, image, resources: _resources, attestationPort: _port, ...measured } = spec;
  const build = { toolkit: VERSION, lock };
  return {
    image,
    hostname: spec.name,
    configurationInput: { ...measured, build },
    configure: async (facts) => await toEnclaveConfig(spec, facts, build),
  };
}

/** Node and what JavaScript of ours goes into every image. */
export function bundles(toolkit: Toolkit): BundledFiles {
  const file = (name: string): string => join(toolkit.distDir, name);
  return {
    node: toolkit.node,
    supervisor: file("supervisor.mjs"),
    gateway: file("gateway.mjs"),
    gatewayApi: file("gateway-api.mjs"),
    gatewayShared: file("gateway-shared.mjs"),
    raServer: file("ra-server.mjs"),
    archive: file("archive.mjs"),
    initctl: file("initctl.mjs"),
  };
}

/** A lock of another list of packages is none: `up` is for work in progress, and `build` tells of the difference. */
async function packagesOfLock(
  spec: EnclaveSpec,
  { architecture }: Toolkit,
): Promise<readonly LockedPackage[] | undefined> {
  const lock = await readLockFile(lockPath(spec.file));
  if (lock === undefined || lock.architecture !== architecture) return undefined;
  const { base } = spec.image;
  if (base.kind === "host" || base.kind !== lock.base.kind) return undefined;
  if (base.kind !== "debian" || lock.base.kind !== "debian") return lock.packages;
  const names = [...new Set(base.packages)].sort();
  return names.join(" ") === lock.base.names.join(" ") ? lock.packages : undefined;
}
