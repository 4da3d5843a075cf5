/** What a runner needs to boot an image in QEMU: worked out by `up`, carried in the run request. */
import { availableParallelism } from "node:os";

import { KitError } from "../../../core/errors.ts";
import type { Manifest } from "../../../wire/manifest.ts";
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
/** Kernel, Node of supervisor, gateway and attestation server, and what a small service needs, beside the files. */
const RUNNING_MIB = 224;
/** What the kernel has taken for itself before it unpacks anything. */
const KERNEL_MIB = 40;
const PAGE_BYTES = 4096;
/** Of a file, directory or link in a file system in memory. */
const INODE_BYTES = 1024;

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
  /** Of all files once they are unpacked. */
  readonly unpackedBytes: number;
}

/**
 * Linux gives its first file system half of the memory that is free when it is made, and the ramdisk is in memory as
 * well while it is unpacked. Measured, see docs/performance.md.
 */
export function neededMemoryMib({ ramdiskBytes, unpackedBytes }: ImageSizes): number {
  const unpackedMib = Math.ceil(unpackedBytes / MIB);
  const unpacking = 2 * unpackedMib + Math.ceil(ramdiskBytes / MIB) + KERNEL_MIB;
  return Math.max(unpacking, unpackedMib + RUNNING_MIB);
}

/** Files of a manifest, in whole pages. */
export function unpackedBytes({ entries }: Manifest): number {
  const sizes = entries.map((entry) => (entry.type === "file" ? pagesOf(entry.size) : 0) + INODE_BYTES);
  return sizes.reduce((sum, size) => sum + size, 0);
}

function pagesOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PAGE_BYTES) * PAGE_BYTES;
}

/** Sizes of the sections that QEMU is given. */
export function ramdiskBytes({ description }: SplitImage): number {
  return description.sections
    .filter((section) => section.kind === "ramdisk")
    .reduce((sum, section) => sum + section.sizeBytes, 0);
}
