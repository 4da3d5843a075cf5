/** QEMU's `microvm` takes a kernel and one initial ramdisk; an image has them as sections. */
import { createReadStream, createWriteStream } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

import { type EifDescription, readEif } from "../../../rbuilds/eif/read-eif.ts";

export interface SplitImage {
  readonly description: EifDescription;
  readonly kernel: string;
  /** All ramdisks, one after another, as the hypervisor hands them to the kernel. */
  readonly ramdisk: string;
}

/** Writes both into `directory`. @throws E_EIF_*, E_DISK_FULL */
export async function splitEif(path: string, directory: string, signal?: AbortSignal): Promise<SplitImage> {
  const description = await readEif(path, { signal });
  const kernel = join(directory, "kernel");
  const ramdisk = join(directory, "ramdisk");
  const sections = (kind: string) => description.sections.filter((section) => section.kind === kind);
  await copySections(path, { sections: sections("kernel"), to: kernel, signal });
  await copySections(path, { sections: sections("ramdisk"), to: ramdisk, signal });
  return { description, kernel, ramdisk };
}

interface Copy {
  readonly sections: EifDescription["sections"];
  readonly to: string;
  readonly signal: AbortSignal | undefined;
}

async function copySections(path: string, { sections, to, signal }: Copy): Promise<void> {
  const output = createWriteStream(to, { mode: 0o600 });
  const source = async function* (): AsyncGenerator<Buffer> {
    for (const { offset, sizeBytes } of sections)
      if (sizeBytes > 0) yield* createReadStream(path, { start: offset, end: offset + sizeBytes - 1 });
  };
  await pipeline(source, output, { signal });
}
