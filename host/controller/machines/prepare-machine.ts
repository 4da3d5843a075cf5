/** The image of an enclave.yaml as a backend needs it, ready for a runner. */
import { availableParallelism } from "node:os";

import type { BuiltImage } from "../../../rbuilds/built-image.ts";
import type { BackendName } from "../../backends/machine-plan.ts";
import { assembleForImage, openWorkingLock } from "../enclave-image.ts";
import { buildImage } from "../image-build.ts";
import type { Toolkit } from "../toolkit.ts";
import { prepareLocal } from "./prepare-local.ts";
import { prepareNitro } from "./prepare-nitro.ts";
import { prepareQemu } from "./prepare-qemu.ts";
import type { AssembleOptions, PreparedMachine, PrepareOptions } from "./prepared-machine.ts";

/** @throws what the backend's own preparation throws */
export async function prepareMachine(
  toolkit: Toolkit,
  backend: BackendName,
  options: PrepareOptions,
): Promise<PreparedMachine> {
  if (backend === "local") return await prepareLocal(toolkit, options);
  return backend === "qemu" ? await prepareQemu(toolkit, options) : await prepareNitro(toolkit, options);
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
