/** The content of one file, from the archive to the disk: while some of it is written more of it is read. */
import type { FileHandle } from "node:fs/promises";

import { type KitError, toKitError } from "../core/errors.ts";
import type { TarMember } from "../wire/tar/tar-reader.ts";
import { writingStep } from "./archive-refusals.ts";

const BATCH_BYTES = 512 * 1024;
const BATCH_PARTS = 256;

/** @param onBytes gets the length of each part as it arrives. */
export async function writeContent(
  handle: FileHandle,
  member: TarMember,
  onBytes: (length: number) => void,
): Promise<void> {
  const writer = new BatchWriter(handle, member.name);
  try {
    for await (const part of member.content) {
      onBytes(part.length);
      await writer.add(part);
    }
    await writer.startWrite();
  } finally {
    await writer.idle();
  }
  writer.throwIfFailed();
}

class BatchWriter {
  readonly #handle: FileHandle;
  readonly #name: string;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  /** Never rejects: nobody may be waiting yet when it fails. */
  #writing: Promise<void> = Promise.resolve();
  #failure: KitError | undefined;

  constructor(handle: FileHandle, name: string) {
    this.#handle = handle;
    this.#name = name;
  }

  async add(part: Uint8Array): Promise<void> {
    this.#parts.push(part);
    this.#bytes += part.length;
    if (this.#bytes >= BATCH_BYTES || this.#parts.length >= BATCH_PARTS) await this.startWrite();
  }

  /** Waits for the write before, and begins one of what was added. */
  async startWrite(): Promise<void> {
    await this.#writing;
    this.throwIfFailed();
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    this.#writing = writingStep(this.#name, "written", writeAll(this.#handle, parts)).catch(
      (error: unknown) => {
        this.#failure = toKitError(error);
      },
    );
  }

  async idle(): Promise<void> {
    await this.#writing;
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

async function writeAll(handle: FileHandle, parts: readonly Uint8Array[]): Promise<void> {
  for (let left = parts; left.length > 0;) {
    const { bytesWritten } = await handle.writev([...left]);
    left = withoutFirst(left, bytesWritten);
  }
}

/** The system may write less than it was given. */
function withoutFirst(parts: readonly Uint8Array[], length: number): Uint8Array[] {
  let skip = length;
  return parts.flatMap((part) => {
    const rest = part.subarray(skip);
    skip -= part.length - rest.length;
    return rest.length === 0 ? [] : [rest];
  });
}
