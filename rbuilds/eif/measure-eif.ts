/** One pass over an image: checksum, digest, registers, and the content of its small sections. */
import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";

import { KitError } from "../../core/errors.ts";
import { type EifSection, HEADER, HEADER_BYTES, type SectionKind } from "../../wire/eif/eif-layout.ts";
import { extendZero, type Pcrs } from "./measurements.ts";

export interface EifMeasurement {
  readonly sha256: string;
  /** Of everything but the checksum itself. */
  readonly crc32: number;
  readonly pcrs: Pcrs;
  /** Of the sections that are neither kernel nor ramdisk: the same bytes that were measured. */
  readonly content: ReadonlyMap<SectionKind, Buffer>;
}

export interface EifMeasureOptions {
  /** Small ones must have been checked to be small. */
  readonly sections: readonly EifSection[];
  readonly sizeBytes: number;
  readonly signal: AbortSignal | undefined;
}

const BLOCK_BYTES = 512 * 1024;

/** @throws E_EIF_INVALID if the file shrinks, the reason of the signal */
export async function measureEif(file: FileHandle, options: EifMeasureOptions): Promise<EifMeasurement> {
  const { sections, sizeBytes, signal } = options;
  const sums = new FileSums();
  const registers = new Registers();
  const content = new Map<SectionKind, Buffer>();
  let position = 0;
  const ordered = [...sections].sort((a, b) => a.offset - b.offset);
  for (const section of ordered) {
    // Headers, and gaps where there are any.
    for await (const block of blocks(file, position, section.offset, signal)) sums.update(block);
    registers.begin(section);
    position = section.offset + section.sizeBytes;
    const chunks: Buffer[] = [];
    for await (const block of blocks(file, section.offset, position, signal)) {
      sums.update(block);
      registers.update(block);
      if (isSmall(section)) chunks.push(Buffer.from(block));
    }
    registers.end();
    if (isSmall(section)) content.set(section.kind, Buffer.concat(chunks));
  }
  for await (const block of blocks(file, position, sizeBytes, signal)) sums.update(block);
  return { ...sums.finish(), pcrs: registers.finish(), content };
}

function isSmall({ kind }: EifSection): boolean {
  return kind !== "kernel" && kind !== "ramdisk";
}

async function* blocks(
  file: FileHandle,
  from: number,
  to: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(1, Math.min(BLOCK_BYTES, to - from)));
  for (let position = from; position < to;) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, to - position), position);
    if (bytesRead === 0)
      throw new KitError("E_EIF_INVALID", "not a valid enclave image: it became shorter while it was read");
    yield buffer.subarray(0, bytesRead);
    position += bytesRead;
  }
}

/** SHA-256 of the file, CRC-32 of the file without the four bytes of its own. */
class FileSums {
  readonly #hash = createHash("sha256");
  #crc = 0;
  #position = 0;

  update(block: Buffer): void {
    this.#hash.update(block);
    const start = this.#position;
    this.#position += block.length;
    if (start >= HEADER_BYTES) this.#crc = crc32(block, this.#crc);
    else {
      this.#crc = crc32(block.subarray(0, Math.max(0, HEADER.crc32 - start)), this.#crc);
      this.#crc = crc32(block.subarray(Math.max(0, HEADER_BYTES - start)), this.#crc);
    }
  }

  finish(): { readonly sha256: string; readonly crc32: number } {
    return { sha256: this.#hash.digest("hex"), crc32: this.#crc };
  }
}

/** Registers 0 to 2. Content is measured in the order of the file. */
class Registers {
  readonly #all = createHash("sha384");
  readonly #others = createHash("sha384");
  #first: string | undefined;
  #section: EifSection | undefined;

  begin(section: EifSection): void {
    this.#section = section;
  }

  update(block: Buffer): void {
    for (const hash of this.#targets()) hash.update(block);
  }

  end(): void {
    if (this.#section?.kind === "ramdisk") this.#first ??= this.#all.copy().digest("hex");
  }

  finish(): Pcrs {
    const all = this.#all.copy().digest("hex");
    return {
      PCR0: extendZero(all),
      PCR1: extendZero(this.#first ?? all),
      PCR2: extendZero(this.#others.digest("hex")),
    };
  }

  #targets(): readonly Hash[] {
    switch (this.#section?.kind) {
      case "kernel":
      case "commandLine":
        return [this.#all];
      case "ramdisk":
        return this.#first === undefined ? [this.#all] : [this.#all, this.#others];
      default:
        return [];
    }
  }
}
