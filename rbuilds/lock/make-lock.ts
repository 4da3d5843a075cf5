/** Resolves every input of an image to what it is today. */
import { resolvePackages, RUNTIME_PACKAGES } from "../apt.ts";
import type { AptOptions } from "../apt-lists.ts";
import { describeOciImage } from "../oci-image.ts";
import type { LockedPackage } from "../locked-package.ts";
import { KERNEL_SOURCE_PACKAGE } from "../kernel/default-kernel.ts";
import { digestKernelFiles } from "../kernel/given-kernel.ts";
import { resolveToolchain } from "../toolchain/toolchain.ts";
import type { BaseSpec, ImageSpec, KernelSpec } from "../../wire/image-spec.ts";
import { KitError } from "../../core/errors.ts";
import type { EnclaveLock, LockedBase, LockedKernel } from "./enclave-lock.ts";

export interface LockRequest {
  readonly image: ImageSpec;
  /** SHA-256 by name of what the toolkit brings. */
  readonly toolkit: Readonly<Record<string, string>>;
}

/** @throws what resolvePackages throws, E_IMAGE_OCI*, E_KERNEL_*, E_EIF_BASE */
export async function makeLock({ image, toolkit }: LockRequest, options: AptOptions): Promise<EnclaveLock> {
  return {
    architecture: options.architecture,
    toolkit,
    base: await lockBase(image.base, options),
    packages: await lockPackages(image.base, options),
    toolchain: await resolveToolchain(options),
    kernel: await lockKernel(image.kernel, options),
  };
}

/** The parts of a lock that follow from the project and the toolkit alone: no network is needed to know them. */
export async function lockOwnParts(
  { image, toolkit }: LockRequest,
  lock: EnclaveLock,
  options: Pick<AptOptions, "architecture" | "signal">,
): Promise<EnclaveLock> {
  const { architecture } = options;
  const base = await lockBase(image.base, options);
  const isSameKind = image.kernel.kind === "default" && lock.kernel.kind === "default";
  const kernel = isSameKind ? lock.kernel : await lockKernelFiles(image.kernel);
  return { ...lock, architecture, toolkit, base, kernel };
}

async function lockBase(
  base: BaseSpec,
  { architecture, signal }: Pick<AptOptions, "architecture" | "signal">,
): Promise<LockedBase> {
  switch (base.kind) {
    case "debian":
      return { kind: "debian", names: [...new Set(base.packages)].sort() };
    case "oci":
      return { kind: "oci", ...(await describeOciImage(base.path, { os: "linux", architecture }, signal)) };
    case "directory":
      return { kind: "directory" };
    case "host":
      throw new KitError("E_EIF_BASE", "an enclave image cannot have the host's files as its base");
  }
}

async function lockPackages(base: BaseSpec, options: AptOptions): Promise<readonly LockedPackage[]> {
  if (base.kind === "debian") return await resolvePackages(base.packages, { ...options, withBase: true });
  return await resolvePackages(RUNTIME_PACKAGES, { ...options, withBase: false });
}

async function lockKernel(kernel: KernelSpec, options: AptOptions): Promise<LockedKernel> {
  if (kernel.kind !== "default") return await lockKernelFiles(kernel);
  const closure = await resolvePackages([KERNEL_SOURCE_PACKAGE], { ...options, withBase: false });
  const source = closure.find(({ name }) => name === KERNEL_SOURCE_PACKAGE);
  if (source === undefined) throw new KitError("E_KERNEL_SOURCE", `apt left out ${KERNEL_SOURCE_PACKAGE}`);
  return { kind: "default", source };
}

async function lockKernelFiles(kernel: KernelSpec): Promise<LockedKernel> {
  return { kind: "files", files: kernel.kind === "default" ? {} : await digestKernelFiles(kernel) };
}
