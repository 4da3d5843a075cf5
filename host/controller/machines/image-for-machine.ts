/** An image file for a machine that begins at once: the same bytes as `pipeline build`, not kept in the store. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";

import type { BuiltImage } from "../../../rbuilds/built-image.ts";
import type { Pcrs } from "../../../rbuilds/eif/measurements.ts";
import { buildImageFile, openWorkingLock } from "../enclave-image.ts";
import type { Toolkit } from "../toolkit.ts";
import type { PrepareOptions } from "./prepared-machine.ts";

export interface ImageForMachine extends AsyncDisposable {
  readonly eif: string;
  readonly image: BuiltImage;
  readonly pcrs: Pcrs;
  /** Folder that goes when this is disposed of. */
  readonly directory: string;
}

/** @throws what building an image file throws */
export async function buildForMachine(toolkit: Toolkit, options: PrepareOptions): Promise<ImageForMachine> {
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
    pcrs: built.pcrs,
    directory,
    [Symbol.asyncDispose]: async () => await files.disposeAsync(),
  };
}
