import { execFile } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { KitError } from "../../core/errors.ts";
import { type BlobStore, openBlobStore } from "../../rbuilds/blob-store.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import { removeTree } from "../../rbuilds/tree.ts";
import { applyTarLayer, DEFAULT_LAYER_LIMITS, type LayerLimits } from "../../rbuilds/tar-layer.ts";

export const run = promisify(execFile);

/** A directory with a blob store and helpers to fill trees from archives; removed at the end. */
export class RootfsTestbed implements AsyncDisposable {
  readonly directory: string;
  readonly blobs: BlobStore;

  constructor(directory: string, blobs: BlobStore) {
    this.directory = directory;
    this.blobs = blobs;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  /** Applies archives one after another, as layers. */
  async apply(
    archives: readonly (string | Uint8Array)[],
    limits: LayerLimits = DEFAULT_LAYER_LIMITS,
  ): Promise<FileTree> {
    const tree = new FileTree();
    for (const archive of archives) {
      const stream = typeof archive === "string" ? createReadStream(archive) : chunksOf(archive);
      await applyTarLayer(stream, { tree, blobs: this.blobs, whiteouts: true, limits, source: "archive" });
    }
    return tree;
  }

  /** Code of the refusal of an archive. */
  async refusal(archive: Uint8Array, limits?: LayerLimits): Promise<string> {
    return await codeOf(this.apply([archive], limits));
  }

  /** Content of a file of the tree. */
  async text(tree: FileTree, path: string): Promise<string> {
    const entry = tree.get(path);
    if (entry?.type !== "file") throw new Error(`${path} is ${entry?.type ?? "absent"}`);
    return (await this.blobs.read(entry.digest, 1 << 20)).toString("utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeTree(this.directory);
  }
}

export async function openRootfsTestbed(): Promise<RootfsTestbed> {
  const directory = await mkdtemp(join(tmpdir(), "rootfs-"));
  return new RootfsTestbed(directory, await openBlobStore(join(directory, "blobs")));
}

/** The code of the KitError that `work` fails with; anything else is thrown on. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "accepted";
  } catch (error) {
    if (error instanceof KitError) return error.code;
    throw error;
  }
}

/** Uneven chunks, so that no reader depends on where they end. */
export async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let offset = 0, size = 1; offset < bytes.length; offset += size, size = (size * 7) % 4099) {
    yield bytes.subarray(offset, offset + size);
  }
}

export interface RawMember {
  readonly name: string;
  readonly type?: string;
  readonly link?: string;
  readonly content?: string | Uint8Array;
  readonly mode?: number;
  readonly uid?: number;
  /** Written in the place of the real length. */
  readonly size?: number;
  readonly badChecksum?: boolean;
}

/** A record of a pax header; its length counts the digits of the length too. */
export function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  const digits = [1, 2, 3, 4, 5, 6].find((count) => String(rest + count).length === count) ?? 1;
  return `${rest + digits} ${key}=${value}\n`;
}

/** A tar archive byte by byte, for what no tar would write. */
export function rawTar(members: readonly RawMember[], end = true): Buffer {
  const parts = members.flatMap((member) => rawMember(member));
  return Buffer.concat(end ? [...parts, Buffer.alloc(1024)] : parts);
}

function rawMember(member: RawMember): Buffer[] {
  const content = Buffer.from(member.content ?? "");
  const header = Buffer.alloc(512);
  header.write(member.name, 0, 100, "utf8");
  header.write((member.mode ?? 0o644).toString(8).padStart(7, "0"), 100);
  header.write((member.uid ?? 0).toString(8).padStart(7, "0"), 108);
  header.write("0000000", 116);
  header.write((member.size ?? content.length).toString(8).padStart(11, "0"), 124);
  header.write("00000000000", 136);
  header.write("        ", 148);
  header.write(member.type ?? "0", 156);
  header.write(member.link ?? "", 157, 100, "utf8");
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0) + (member.badChecksum === true ? 1 : 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
}
