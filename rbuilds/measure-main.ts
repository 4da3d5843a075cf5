/**
 * `measure.js CACHE MANIFEST BASE BLOBS` prints register 2 of an application. A process of its own: a ramdisk is compressed
 * for it, and a runner has neither the memory nor the time for that. It ends with its input, which is its caller's life.
 */
import { setPriority } from "node:os";

import { KitError, toKitError } from "../core/errors.ts";
import { measureApplication } from "./image/measure-application.ts";

/** Whoever starts an enclave waits for other things first. */
const NICENESS = 10;

process.stdin.on("close", () => process.exit(1)).resume();
setPriority(NICENESS);
try {
  const [cacheDir, manifestPath, baseManifestPath, blobsDirectory] = process.argv.slice(2);
  if (
    cacheDir === undefined ||
    manifestPath === undefined ||
    baseManifestPath === undefined ||
    blobsDirectory === undefined
  )
    throw new KitError("E_USAGE", "usage: measure.js CACHE MANIFEST BASE BLOBS");
  const files = { manifestPath, baseManifestPath, blobsDirectory };
  const register = await measureApplication(files, { cacheDir });
  process.stdout.write(register, () => process.exit(0));
} catch (error) {
  const refusal = toKitError(error);
  process.stderr.write(`${refusal.code}: ${refusal.message}\n`, () => process.exit(refusal.exitStatus));
}
