/**
 * From an image specification to a finished image in the cache: lock, base, copied files, runtime, configuration,
 * manifest. A build whose inputs have not changed is found by their key and does nothing.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

import { writeFileAtomic } from "../core/atomic-file.ts";
import { isErrno, KitError } from "../core/errors.ts";
import type { EnclaveConfig } from "../wire/enclave-config.ts";
import type { ImageSpec, PackageSource } from "../wire/image-spec.ts";
import { RUNTIME } from "../wire/runtime-layout.ts";
import { RUNTIME_PACKAGES } from "./apt.ts";
import { type BlobStore, openBlobStore } from "./blob-store.ts";
import type { BuiltImage } from "./built-image.ts";
import { canonicalJson } from "./canonical-json.ts";
import { buildDebianBase } from "./debian-base.ts";
import { addDirectory } from "./directory-source.ts";
import { FileTree } from "./file-tree.ts";
import { addHostBase } from "./host-base.ts";
import type { ImageFacts } from "./image-facts.ts";
import { NO_DEFAULTS } from "./image-facts.ts";
import type { DebianArchitecture, LockedPackage } from "./locked-package.ts";
import { encodeManifest } from "./manifest-file.ts";
import { importOciImage } from "./oci-image.ts";
import { lockPackages } from "./package-lock.ts";
import { packageReporter } from "./package-report.ts";
import { addRuntime, type RuntimeFiles } from "./runtime.ts";
import { openRuntimeLibraries } from "./runtime-libraries.ts";
import { fingerprintSource } from "./source-fingerprint.ts";
import { resolveUser } from "./users.ts";

/** Raised whenever a build of the same inputs gives other bytes. */
const RECIPE_VERSION = 7;

export interface AssembleRequest {
  readonly image: ImageSpec;
  readonly hostname: string;
  /** Everything besides the image's own facts that `configure` depends on. */
  readonly configurationInput: unknown;
  /** Makes the measured configuration once the image's users and defaults are known. */
  readonly configure: (facts: ImageFacts) => Promise<EnclaveConfig>;
}

export interface AssembleOptions {
  readonly cacheDir: string;
  /** Where locks are kept that no project commits. */
  readonly lockDir: string;
  readonly architecture: DebianArchitecture;
  /** Proxy settings for apt, as environment variables. */
  readonly proxies: Readonly<Record<string, string>>;
  readonly runtime: RuntimeFiles;
  /** Of an enclave.lock: obeyed, and never resolved anew. */
  readonly packages?: readonly LockedPackage[] | undefined;
  /** Folders and archives that have packages of the lock. */
  readonly sources?: readonly PackageSource[] | undefined;
  /** Of a file of this machine: larger ones are refused before they are copied. */
  readonly maxFileBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** One line for the operator about a step that takes long. */
  readonly onProgress?: ((step: string) => void) | undefined;
}

interface Build extends AssembleOptions {
  readonly request: AssembleRequest;
  readonly blobs: BlobStore;
}

/** @throws E_IMAGE_*, E_LOCK_*, E_CONFIG_FILE_MISSING, E_DISK_FULL */
export async function assembleImage(request: AssembleRequest, options: AssembleOptions): Promise<BuiltImage> {
  const blobs = await openBlobStore(join(options.cacheDir, "blobs"));
  const build: Build = { ...options, request, blobs };
  const locked = await lockInputs(build, false);
  const kept = await readKept(build, await imageKey(build, locked));
  if (kept !== undefined) return kept;
  options.onProgress?.(`building the image of ${request.hostname}`);
  try {
    return await buildAndKeep(build, locked);
  } catch (error) {
    // Nobody committed this lock: where the mirrors moved on, it moves on too.
    const isGone = error instanceof KitError && error.code === "E_LOCK_UNAVAILABLE";
    if (!isGone || build.packages !== undefined) throw error;
    options.onProgress?.(`resolving packages anew: ${error.message}`);
    return await buildAndKeep(build, await lockInputs(build, true));
  }
}

async function lockInputs(build: Build, renew: boolean): Promise<readonly LockedPackage[]> {
  const { base } = build.request.image;
  if (base.kind === "host") return [];
  if (build.packages !== undefined) return build.packages;
  const isDebian = base.kind === "debian";
  return await lockPackages({
    packages: isDebian ? base.packages : RUNTIME_PACKAGES,
    directory: build.lockDir,
    renew,
    resolve: { ...packageOptions(build), withBase: isDebian },
  });
}

function packageOptions(build: Build) {
  const { architecture, cacheDir, blobs, sources, signal, onProgress } = build;
  const report = onProgress === undefined ? undefined : packageReporter(onProgress);
  const system = { proxies: build.proxies };
  return { architecture, cacheDir, blobs, sources, signal, onProgress: report, system };
}

/** Changes whenever the result might: names of all inputs, states of all source files. */
async function imageKey(build: Build, locked: readonly LockedPackage[]): Promise<string> {
  const { configurationInput, hostname } = build.request;
  const { base, copy } = build.request.image;
  const sources = copy.map((item) => item.from);
  if (base.kind === "oci" || base.kind === "directory") sources.push(base.path);
  const files = [...Object.values(build.runtime), ...sources];
  const fingerprints = [];
  for (const path of files) fingerprints.push(await fingerprintSource(path, build.signal));
  const packages = locked.map((one) => one.sha256);
  const image = { base, copy };
  const key = { version: RECIPE_VERSION, image, configurationInput, hostname, fingerprints, packages };
  return createHash("sha256").update(canonicalJson(key)).digest("hex");
}

async function buildAndKeep(build: Build, locked: readonly LockedPackage[]): Promise<BuiltImage> {
  const image = await buildImage(build, locked);
  const key = await imageKey(build, locked);
  await writeFileAtomic(keptPath(build, key), JSON.stringify(image));
  return image;
}

async function buildImage(build: Build, locked: readonly LockedPackage[]): Promise<BuiltImage> {
  const tree = new FileTree();
  const { blobs, request } = build;
  const base = await addBase(build, tree, locked);
  const baseManifestPath = (await writeManifest(build, tree)).path;
  for (const { from, to } of request.image.copy)
    await addDirectory(from, to, { ...copyOptions(build, tree), modes: "normal" });
  await addIdentity(build, tree);
  const config = await request.configure({
    defaults: base.defaults,
    resolveUser: async (spec) => await resolveUser(tree, blobs, spec),
  });
  const options = { ...packageOptions(build), node: build.runtime.node };
  const libraries = request.image.base.kind === "host" ? "host" : await openRuntimeLibraries(locked, options);
  const { cacheDir, signal } = build;
  await addRuntime(tree, blobs, { ...build.runtime, libraries, config, cacheDir, signal });
  const { hostBinds, warnings } = base;
  return await keepManifest(build, tree, { config, hostBinds, warnings, baseManifestPath });
}

interface BaseResult {
  readonly defaults: ImageFacts["defaults"];
  readonly hostBinds: readonly string[];
  readonly warnings: readonly string[];
}

async function addBase(build: Build, tree: FileTree, locked: readonly LockedPackage[]): Promise<BaseResult> {
  const { base } = build.request.image;
  const { blobs, signal, architecture } = build;
  const nothing: BaseResult = { defaults: NO_DEFAULTS, hostBinds: [], warnings: [] };
  switch (base.kind) {
    case "debian":
      return { ...nothing, ...(await buildDebianBase(locked, { ...packageOptions(build), tree })) };
    case "oci": {
      const platform = { os: "linux", architecture } as const;
      return { ...nothing, defaults: await importOciImage(base.path, { tree, blobs, platform, signal }) };
    }
    case "directory":
      await addDirectory(base.path, "/", copyOptions(build, tree));
      return nothing;
    case "host":
      return { ...nothing, hostBinds: await addHostBase(tree, blobs) };
  }
}

function copyOptions({ blobs, maxFileBytes, signal }: Build, tree: FileTree) {
  return { tree, blobs, maxFileBytes, signal };
}

/** The machine's name, and what resolves it. */
async function addIdentity({ request, blobs }: Build, tree: FileTree): Promise<void> {
  const files = {
    "/etc/hostname": `${request.hostname}\n`,
    "/etc/hosts": `127.0.0.1 localhost ${request.hostname}\n::1 localhost ip6-localhost ip6-loopback\n`,
  };
  for (const [path, text] of Object.entries(files)) {
    tree.set({ type: "file", path, mode: 0o644, uid: 0, gid: 0, ...(await blobs.put(Buffer.from(text))) });
  }
}

async function keepManifest(
  build: Build,
  tree: FileTree,
  rest: Pick<BuiltImage, "config" | "hostBinds" | "warnings" | "baseManifestPath">,
): Promise<BuiltImage> {
  const { digest, path: manifestPath } = await writeManifest(build, tree);
  const blobsDirectory = join(build.cacheDir, "blobs");
  const filesDigest = hashFiles(tree);
  return { digest, filesDigest, manifestPath, blobsDirectory, contentBytes: contentBytes(tree), ...rest };
}

async function writeManifest(
  build: Build,
  tree: FileTree,
): Promise<{ readonly digest: string; readonly path: string }> {
  const bytes = encodeManifest(tree.toManifest());
  const digest = createHash("sha256").update(bytes).digest("hex");
  const directory = join(build.cacheDir, "images");
  await mkdir(directory, { recursive: true });
  const path = join(directory, `${digest}.manifest.json`);
  await writeFileAtomic(path, bytes);
  return { digest, path };
}

function hashFiles(tree: FileTree): string {
  const files = tree.entries().filter((entry) => entry.path !== RUNTIME.config);
  return createHash("sha256").update(canonicalJson(files)).digest("hex");
}

/** What the files take in the memory of an enclave; further names of a file take nothing. */
function contentBytes(tree: FileTree): number {
  return tree.entries().reduce((sum, entry) => sum + (entry.type === "file" ? entry.size : 0), 0);
}

function keptPath(build: Build, key: string): string {
  return join(build.cacheDir, "images", `${key}.json`);
}

/** The finished image of an earlier build, if its manifest is still there. What we cannot read is built again. */
async function readKept(build: Build, key: string): Promise<BuiltImage | undefined> {
  try {
    const image: BuiltImage = JSON.parse(await readFile(keptPath(build, key), "utf8"));
    await stat(image.manifestPath);
    await stat(image.baseManifestPath);
    return image;
  } catch (error) {
    if (isErrno(error, "ENOENT") || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
