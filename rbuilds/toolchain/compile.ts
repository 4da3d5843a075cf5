/**
 * What was compiled in the sandbox, kept by everything that decides its bytes:
 *
 *   <cacheDir>/compiled/<key>.json     digests of the results by name; the files are blobs
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";

import { writeFileAtomic } from "../../core/atomic-file.ts";
import { isErrno, KitError } from "../../core/errors.ts";
import { holdMachineLock } from "../../core/machine-lock.ts";
import type { BlobStore, StoredBlob } from "../blob-store.ts";
import { canonicalJson } from "../canonical-json.ts";
import { FileTree } from "../file-tree.ts";
import { applyTarLayer } from "../tar-layer.ts";
import { runInBuildSandbox, type SandboxIds, type SandboxInput } from "./build-sandbox.ts";
import type { Toolchain } from "./toolchain.ts";

/** A kernel takes this long on a slow machine. */
const MAX_WAIT_MS = 1_800_000;

export interface CompileRequest {
  /** What is made, in messages: "the kernel". */
  readonly title: string;
  /** Everything that decides the result besides toolchain and script: digests, options. */
  readonly key: unknown;
  /** Prints a tar of the results on descriptor 3; see resultScript. */
  readonly script: string;
  /** Parts of the script that change nothing in the result are left out of the key. */
  readonly scriptKey?: string;
  readonly inputs: readonly SandboxInput[];
  /** Names of the results. */
  readonly results: readonly string[];
  readonly tmpfsBytes: number;
  readonly timeoutMs: number;
  readonly maxResultBytes: number;
}

export interface CompileOptions {
  readonly toolchain: Toolchain;
  readonly launcher: string;
  readonly ids: SandboxIds;
  readonly cacheDir: string;
  readonly blobs: BlobStore;
  readonly signal?: AbortSignal | undefined;
  /** Each line that the tools print. */
  readonly onLine?: ((line: string) => void) | undefined;
  /** One line for the operator. */
  readonly onStep?: ((step: string) => void) | undefined;
}

/** Standard output becomes standard error; what the script leaves in /build/result goes out as a tar. */
export function resultScript(script: string): string {
  return `exec 3>&1 1>&2
mkdir /build/result
${script}
cd /build/result
tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - * >&3
`;
}

/**
 * The results by name, from the cache where they were made before.
 * @throws E_TOOLCHAIN_COMPILE with the end of the tools' output, and what runInBuildSandbox throws
 */
export async function compile(
  request: CompileRequest,
  options: CompileOptions,
): Promise<ReadonlyMap<string, StoredBlob>> {
  const path = join(options.cacheDir, "compiled", `${compileKey(request, options.toolchain)}.json`);
  const kept = await readKept(path, request, options.blobs);
  if (kept !== undefined) return kept;
  // Of two builds that need the same one compiles. A lock that cannot be had is no reason not to build.
  await using _lock = await holdMachineLock(path, MAX_WAIT_MS, {
    signal: options.signal,
    onWait: () => options.onStep?.(`waiting: another build compiles ${request.title}`),
  });
  const made = await readKept(path, request, options.blobs);
  if (made !== undefined) return made;
  await mkdir(join(options.cacheDir, "compiled"), { recursive: true });
  const work = await mkdtemp(join(options.cacheDir, "compiled", "work-"));
  try {
    const results = await compileNow(request, options, work);
    await writeFileAtomic(path, JSON.stringify(Object.fromEntries(results)));
    return results;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function compileKey({ key, script, scriptKey, results }: CompileRequest, toolchain: Toolchain): string {
  const inputs = { key, script: scriptKey ?? script, results, toolchain: toolchain.digest };
  return createHash("sha256").update(canonicalJson(inputs)).digest("hex");
}

async function compileNow(
  request: CompileRequest,
  options: CompileOptions,
  work: string,
): Promise<ReadonlyMap<string, StoredBlob>> {
  const output = join(work, "result.tar");
  const { status, log } = await runInBuildSandbox({
    ...options,
    ...request,
    root: options.toolchain.root,
    scratchDir: work,
    output,
    maxOutputBytes: request.maxResultBytes,
  });
  if (status !== 0) {
    const end = log.split("\n").slice(-12).join("\n");
    throw new KitError("E_TOOLCHAIN_COMPILE", `${request.title} did not compile (status ${status}): ${end}`);
  }
  return await readResults(output, request, options);
}

async function readResults(
  path: string,
  { results, title, maxResultBytes }: CompileRequest,
  { blobs, signal }: CompileOptions,
): Promise<ReadonlyMap<string, StoredBlob>> {
  const tree = new FileTree();
  const limits = { maxBytes: maxResultBytes, maxMembers: results.length };
  await applyTarLayer(createReadStream(path), {
    tree,
    blobs,
    whiteouts: false,
    limits,
    source: title,
    signal,
  });
  return new Map(
    results.map((name) => {
      const entry = tree.get(`/${name}`);
      if (entry?.type === "file") return [name, { digest: entry.digest, size: entry.size }];
      throw new KitError("E_TOOLCHAIN_COMPILE", `${title}: the build left no ${name}`);
    }),
  );
}

/** What an earlier build kept, if every file is still there. */
async function readKept(
  path: string,
  { results }: CompileRequest,
  blobs: BlobStore,
): Promise<ReadonlyMap<string, StoredBlob> | undefined> {
  try {
    const kept: Readonly<Record<string, StoredBlob>> = JSON.parse(await readFile(path, "utf8"));
    const found = results.flatMap((name) => {
      const blob = kept[name];
      return blob === undefined ? [] : [[name, blob] as const];
    });
    const present = await Promise.all(found.map(async ([, blob]) => await blobs.has(blob.digest)));
    return found.length === results.length && !present.includes(false) ? new Map(found) : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT") || error instanceof SyntaxError || error instanceof TypeError)
      return undefined;
    throw error;
  }
}
