/** What a runner needs to boot an image in QEMU: worked out by `up`, carried in the run request. */
import { availableParallelism } from "node:os";

import { KitError } from "../../../core/errors.ts";
import type { Accelerator } from "./accelerator-probe.ts";
import type { QemuProgram } from "./qemu-program.ts";
import type { SplitImage } from "./split-eif.ts";

export interface QemuPlan {
  readonly qemu: QemuProgram;
  readonly accelerator: Accelerator;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly ramdisk: string;
  /** Of the image. */
  readonly commandLine: string;
  /** Ends QEMU with its owner. */
  readonly launcher: string;
  /** native/addon.ts */
  readonly addon: string;
}

export interface QemuResources {
  readonly cpus: number;
  readonly memoryBytes: number;
}

const MIB = 1024 ** 2;
/** Kernel, its tables, Node of the supervisor and of the gateway, and what a small service needs. */
const BASE_MIB = 192;

/** A machine has whole CPUs, and no more of them than the host. */
export function countCpus({ cpus }: QemuResources): number {
  return Math.max(1, Math.min(Math.ceil(cpus), availableParallelism()));
}

/**
 * Checked before the boot: a kernel that cannot unpack its ramdisk says so in one line of many, and goes on.
 * @throws E_QEMU_MEMORY with the number to set
 */
export function checkMemory({ memoryBytes }: QemuResources, image: ImageSizes): number {
  const memoryMib = Math.floor(memoryBytes / MIB);
  const neededMib = neededMemoryMib(image);
  if (memoryMib >= neededMib) return memoryMib;
  throw new KitError(
    "E_QEMU_MEMORY",
    `the image needs at least ${neededMib} MiB to boot, and resources.memory is ${memoryMib} MiB`,
    { hint: `Set resources: { memory: ${neededMib}MiB } in the enclave.yaml.` },
  );
}

export interface ImageSizes {
  /** Of the ramdisks as they are in the image. */
  readonly ramdiskBytes: number;
  /** Of all files. */
  readonly contentBytes: number;
}

/**
 * While the kernel unpacks, the ramdisk is in memory twice; and Linux gives its first file system half of the memory at
 * most. Both were measured, see docs/backends.md.
 */
export function neededMemoryMib({ ramdiskBytes, contentBytes }: ImageSizes): number {
  const unpackedMib = Math.ceil(contentBytes / MIB);
  const twice = Math.ceil(ramdiskBytes / MIB) + unpackedMib + BASE_MIB;
  return Math.max(twice, 2 * unpackedMib + BASE_MIB / 2);
}

/** Sizes of the sections that QEMU is given. */
export function ramdiskBytes({ description }: SplitImage): number {
  return description.sections
    .filter((section) => section.kind === "ramdisk")
    .reduce((sum, section) => sum + section.sizeBytes, 0);
}
