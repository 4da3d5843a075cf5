import { createHash } from "node:crypto";
import { lstat, mkdtemp, readdir, readFile, readlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";

import type { ArchiveLimits } from "../../archive/archive-limits.ts";
import { packArchive } from "../../archive/pack-archive.ts";
import { unpackArchive, type UnpackOptions } from "../../archive/unpack-archive.ts";
import { KitError } from "../../core/errors.ts";
import { removeTree } from "../../rbuilds/tree.ts";
import type { ArchiveSummary } from "../../wire/archive-report.ts";

export const isRoot = process.getuid?.() === 0;

/** A directory of its own for a test; removed at the end, whatever modes are in it. */
export class ArchiveBed implements AsyncDisposable {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeTree(this.directory);
  }
}

export async function openArchiveBed(parent = tmpdir()): Promise<ArchiveBed> {
  return new ArchiveBed(await mkdtemp(join(parent, "archive-")));
}

/** The archive of what lies at `path`, whole. */
export async function packToBytes(path: string, limits?: ArchiveLimits): Promise<Buffer> {
  const output = new PassThrough();
  const parts: Buffer[] = [];
  output.on("data", (part: Buffer) => parts.push(part));
  const { signal } = new AbortController();
  await packArchive(path, { output, signal, ...(limits === undefined ? {} : { limits }) });
  return Buffer.concat(parts);
}

export async function unpackBytes(
  archive: Uint8Array,
  destination: string,
  options: Partial<UnpackOptions> = {},
): Promise<ArchiveSummary> {
  const input = Readable.from(unevenChunks(archive), { objectMode: false });
  const { signal } = new AbortController();
  const policy = { owners: isRoot ? "keep" : "caller", specialModes: "keep" } as const;
  return await unpackArchive(destination, { input, signal, ...policy, ...options });
}

/** The refusal that `work` ends with; anything else fails the test. */
export async function refusalOf(work: Promise<unknown>): Promise<KitError> {
  const result = await work.then(
    () => "it was accepted",
    (error: unknown) => error,
  );
  if (result instanceof KitError) return result;
  throw new Error(`no refusal: ${String(result)}`, { cause: result });
}

/** Everything of a tree that a copy keeps, one line for each entry, in the order of the names. */
export async function describeTree(path: string, name = "."): Promise<string[]> {
  const info = await lstat(path, { bigint: true });
  const kind = info.isDirectory() ? "directory" : info.isSymbolicLink() ? "link" : "file";
  const mode = kind === "link" ? "" : (info.mode & 0o7777n).toString(8);
  // Node sets times to a quarter of a microsecond.
  const time = (info.mtimeNs + 5000n) / 10_000n;
  const links = kind === "file" ? String(info.nlink) : "";
  const line = [name, kind, mode, info.uid, info.gid, time, links, await contentOf(path, kind)].join(" ");
  if (kind !== "directory") return [line];
  const children = (await readdir(path)).sort();
  const below = await Promise.all(
    children.map((child) => describeTree(join(path, child), `${name}/${child}`)),
  );
  return [line, ...below.flat()];
}

async function contentOf(path: string, kind: string): Promise<string> {
  if (kind === "link") return await readlink(path);
  if (kind === "directory") return "";
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

/** So that no reader depends on where chunks end. */
function* unevenChunks(bytes: Uint8Array): Generator<Uint8Array> {
  for (let offset = 0, size = 1; offset < bytes.length; offset += size, size = (size * 7) % 65_521) {
    yield bytes.subarray(offset, offset + size);
  }
}
