/** What nitro-cli wants of memory and gives of time, known before it is asked. */
import { KitError } from "../../../core/errors.ts";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** The driver's least. */
const LEAST_MIB = 64;
/** nitro-cli refuses less than this many times the image. */
const MEMORY_PER_IMAGE = 4;
/** nitro-cli's own wait for the heartbeat, once for each started 6 GiB of image and 100 GiB of memory. */
const BOOT_WAIT_MS = 90_000;
/** To reserve memory and copy the image, beside the wait for the heartbeat. */
const LOADING_MS = 60_000;

/** MiB that an enclave with an image of that size needs at least. */
export function leastMemoryMib(imageBytes: number): number {
  return Math.max(LEAST_MIB, Math.ceil((MEMORY_PER_IMAGE * imageBytes) / MIB));
}

/** @returns MiB, rounded up. @throws E_NITRO_MEMORY with the number to set */
export function checkMemory(memoryBytes: number, imageBytes: number): number {
  const memoryMib = Math.ceil(memoryBytes / MIB);
  const neededMib = leastMemoryMib(imageBytes);
  if (memoryMib >= neededMib) return memoryMib;
  throw new KitError(
    "E_NITRO_MEMORY",
    `the enclave has ${memoryMib} MiB, and its image of ${Math.ceil(imageBytes / MIB)} MiB needs ${neededMib} MiB: four times its size`,
    { hint: `Set resources: { memory: ${neededMib}MiB } or more.` },
  );
}

/** The longest that run-enclave may take. */
export function launchTimeoutMs(memoryBytes: number, imageBytes: number): number {
  const waits =
    2 +
    Math.floor(Math.max(0, imageBytes - 1) / (6 * GIB)) +
    Math.floor(Math.max(0, memoryBytes - 1) / (100 * GIB));
  return waits * BOOT_WAIT_MS + LOADING_MS;
}
