/** Projects to build images from, and caches that hold no more than what takes minutes to make. */
import { execFile } from "node:child_process";
import { chmod, cp, link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { z } from "zod";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { openPackages } from "../../rbuilds/debian-packages.ts";
import { resolvePackages } from "../../rbuilds/apt.ts";
import { ARCHITECTURE, sharedCache } from "../fixtures/rbuilds/debian-testbed.ts";
import { ROOT, type RunOptions, runCommand, type CommandResult } from "./testbed.ts";

export const BuiltJson = z.object({
  eif: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  sizeBytes: z.number(),
  pcrs: z.record(z.string(), z.string().regex(/^[0-9a-f]{96}$/)),
  provenance: z.string().nullable(),
  lock: z.string(),
});
export type Built = z.infer<typeof BuiltJson>;

/** The first build of a machine compiles a kernel. */
const BUILD_TIMEOUT_MS = 2_400_000;

/** Kernels are compiled once for a machine, in the cache that every other test of the command line uses. */
export const DEFAULT_CACHE = join(
  process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"),
  "enclave-toolkit",
);

/** A folder of its own with copies of examples; removed at the end. */
export class ImageBed implements AsyncDisposable {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  /** @returns path of its enclave.yaml */
  async project(example: string, name = example): Promise<string> {
    await cp(join(ROOT, "examples", example), this.path(name), { recursive: true });
    await rm(this.path(name, "enclave.lock"), { force: true });
    return this.path(name, "enclave.yaml");
  }

  async pipeline(words: readonly string[], run: ImageRun = {}): Promise<CommandResult> {
    const [first, ...rest] = [...(run.prefix ?? []), run.node ?? process.execPath];
    const program = join(run.install ?? ROOT, "bin", "pipeline.js");
    const cache = run.cacheDir === undefined ? [] : ["--cache-dir", run.cacheDir];
    const state = ["--state-dir", run.stateDir ?? this.path("state")];
    return await runCommand(
      [first, ...rest, program, ...state, ...cache, ...words],
      run.environment,
      BUILD_TIMEOUT_MS,
    );
  }

  async build(yaml: string, output: string, run: ImageRun = {}): Promise<Built> {
    const words = ["build", yaml, "--output", output, "--json", ...(run.flags ?? [])];
    const { status, stdout, stderr } = await this.pipeline(words, run);
    if (status !== 0) throw new Error(`build: exit ${status}\n${stdout}\n${stderr}`);
    return BuiltJson.parse(JSON.parse(stdout));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

export interface ImageRun extends RunOptions {
  readonly cacheDir?: string;
  readonly stateDir?: string;
  readonly flags?: readonly string[];
}

export async function openImageBed(): Promise<ImageBed> {
  const directory = await mkdtemp(join(tmpdir(), "im-"));
  await chmod(directory, 0o755);
  return new ImageBed(directory);
}

/**
 * A cache that has downloads and the compiled kernel of `from` and nothing else: all the rest is made anew.
 * @param owner uid and gid of its files
 */
export async function seedCache(from: string, to: string, owner?: number): Promise<void> {
  await mkdir(join(to, "debs"), { recursive: true });
  for (const name of await readdir(join(from, "debs")))
    if (name.endsWith(".deb")) await linkOrCopy(join(from, "debs", name), join(to, "debs", name));
  await mkdir(join(to, "compiled"));
  const source = await openBlobStore(join(from, "blobs"));
  const target = await openBlobStore(join(to, "blobs"));
  for (const name of await readdir(join(from, "compiled"))) {
    if (!name.endsWith(".json")) continue;
    const text = await readFile(join(from, "compiled", name), "utf8");
    if (!text.includes('"bzImage"')) continue;
    await writeFile(join(to, "compiled", name), text);
    for (const [, digest = ""] of text.matchAll(/"digest":"([0-9a-f]{64})"/g))
      await target.putFile(source.path(digest));
  }
  if (owner !== undefined) await promisify(execFile)("chown", ["-R", `${owner}:${owner}`, to]);
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  await link(from, to).catch(async () => await cp(from, to));
}

/** Debian's libfaketime, which moves the clock of one process. */
export async function faketimeLibrary(): Promise<string> {
  const cacheDir = sharedCache();
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  const options = { architecture: ARCHITECTURE, cacheDir, blobs, withBase: false };
  const locked = await resolvePackages(["libfaketime"], options);
  const packages = await openPackages(
    locked.filter(({ name }) => name === "libfaketime"),
    options,
  );
  const library = packages[0]?.entries.find((entry) => entry.path.endsWith("/libfaketime.so.1"));
  if (library?.type !== "file") throw new Error("libfaketime has no library");
  return blobs.path(library.digest);
}
