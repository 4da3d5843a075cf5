import { open } from "node:fs/promises";
import { constants, zstdCompressSync } from "node:zlib";

import { openBlobStore } from "../rbuilds/blob-store.ts";
import { readEif } from "../rbuilds/eif/read-eif.ts";
import { FileRange } from "../rbuilds/ramdisk/file-range.ts";
import { readRamdisk, type RamdiskEntry } from "../rbuilds/ramdisk/read-ramdisk.ts";
import { findZstdFrameEnd } from "../rbuilds/ramdisk/zstd-frame.ts";
import { RUNTIME } from "../wire/runtime-layout.ts";
import { print } from "./pipeline-process.ts";

const PARTS = ["base", "runtime", "application"];
const MAX_BLOB_BYTES = 1024 ** 3;

interface Part {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** What takes the room in an image of ours: bytes in the file, and unpacked. */
export async function printImageSizes(eif: string, blobsDirectory: string): Promise<void> {
  const image = await readEif(eif);
  const [kernel, ...ramdisks] = image.sections.filter(({ kind }) => kind === "kernel" || kind === "ramdisk");
  const [boot, application] = ramdisks;
  if (kernel === undefined || boot === undefined || application === undefined)
    throw new Error("sizes: the image has not the sections of ours");
  print(`sizes: ${eif}: ${image.sizeBytes} bytes`);
  printRow("kernel", kernel.sizeBytes);
  printRow("boot ramdisk", boot.sizeBytes, sumOf(await entriesOf(eif, boot)));
  const entries = await entriesOf(eif, application);
  for (const [index, sizeBytes] of (await frameSizes(eif, application)).entries()) {
    const own = entries.filter(({ archive }) => archive === index);
    printRow(PARTS[index] ?? `part ${index}`, sizeBytes, sumOf(own), own.length);
  }
  await printRuntime(entries, blobsDirectory);
}

async function printRuntime(entries: readonly RamdiskEntry[], blobsDirectory: string): Promise<void> {
  const within = (prefix: string) => (path: string) => path.startsWith(`rootfs${prefix}`);
  const groups: readonly (readonly [string, (path: string) => boolean])[] = [
    ["Node", within(RUNTIME.node)],
    ["its libraries", within(`${RUNTIME.libraries}/`)],
    ["our bundles", (path) => within(`${RUNTIME.directory}/`)(path) && path.endsWith(".mjs")],
  ];
  const blobs = await openBlobStore(blobsDirectory);
  for (const [name, belongs] of groups) {
    const own = entries.filter(({ path, sha256 }) => sha256 !== undefined && belongs(path));
    const contents = own.map(async ({ sha256 = "" }) => await blobs.read(sha256, MAX_BLOB_BYTES));
    const params = { [constants.ZSTD_c_compressionLevel]: 3 };
    printRow(
      `  ${name}, alone`,
      zstdCompressSync(Buffer.concat(await Promise.all(contents)), { params }).length,
      sumOf(own),
      own.length,
    );
  }
}

async function entriesOf(path: string, { offset, sizeBytes }: Part): Promise<RamdiskEntry[]> {
  return await Array.fromAsync(readRamdisk(path, { offset, sizeBytes }));
}

/** Of the frames that follow one another in a ramdisk. */
async function frameSizes(path: string, { offset, sizeBytes }: Part): Promise<number[]> {
  const refuse = (why: string): Error => new Error(`sizes: ${why}`);
  await using file = await open(path);
  const range = new FileRange(file, { offset, sizeBytes, refuse });
  const sizes: number[] = [];
  for (let start = 0; start < sizeBytes;) {
    const end = await findZstdFrameEnd(range, start, refuse);
    sizes.push(end - start);
    start = end;
  }
  return sizes;
}

function sumOf(entries: readonly RamdiskEntry[]): number {
  return entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function printRow(name: string, packedBytes: number, unpackedBytes?: number, files?: number): void {
  const unpacked = unpackedBytes === undefined ? "" : `${unpackedBytes} unpacked`;
  print(
    `  ${name.padEnd(22)} ${packedBytes} bytes ${unpacked} ${files === undefined ? "" : `${files} files`}`,
  );
}
