/** A store in a directory of its own, and files to put into it. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { ImageDescription } from "../../rbuilds/store/image-info.ts";
import type { StoredImage } from "../../rbuilds/store/image-lookup.ts";
import { type AddRequest, type ImageStore, openImageStore } from "../../rbuilds/store/image-store.ts";

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export function describeBytes(bytes: Uint8Array, changes: Partial<ImageDescription> = {}): ImageDescription {
  return {
    digest: sha256(bytes),
    sizeBytes: bytes.length,
    pcrs: { PCR0: "0".repeat(96), PCR1: "1".repeat(96), PCR2: "2".repeat(96) },
    name: "counter",
    mode: "development",
    architecture: "x86_64",
    kernelVersion: "6.1.0",
    signedBy: null,
    ...changes,
  };
}

export class StoreBed implements AsyncDisposable {
  readonly directory: string;
  readonly store: ImageStore;

  constructor(directory: string) {
    this.directory = directory;
    this.store = openImageStore(this.storeDirectory);
  }

  get storeDirectory(): string {
    return this.path("images");
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  async file(bytes: Uint8Array): Promise<string> {
    const path = this.path(`${randomBytes(6).toString("hex")}.eif`);
    await writeFile(path, bytes);
    return path;
  }

  /** Adds an image of these bytes, or of random ones. */
  async add(
    tags: readonly string[],
    bytes: Uint8Array = randomBytes(1000),
    more: Partial<AddRequest> = {},
  ): Promise<StoredImage> {
    const eifPath = await this.file(bytes);
    return await this.store.add({ eifPath, info: describeBytes(bytes), tags, ...more });
  }

  /** Folders of commands that are busy, or were killed. */
  async temporaries(): Promise<string[]> {
    return await readdir(join(this.storeDirectory, "tmp"));
  }

  /** Digests of what lies in the store's place for images, each of them read and found whole. */
  async wholeImages(): Promise<string[]> {
    const digests = await readdir(join(this.storeDirectory, "sha256"));
    for (const digest of digests) {
      const bytes = await readFile(join(this.storeDirectory, "sha256", digest, "image.eif"));
      if (sha256(bytes) !== digest) throw new Error(`${digest} is not whole`);
    }
    return digests;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

export async function openStoreBed(): Promise<StoreBed> {
  return new StoreBed(await mkdtemp(join(tmpdir(), "store-")));
}
