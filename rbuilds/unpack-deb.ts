/**
 * A .deb taken apart without running anything of it. dpkg-deb gives the two archives of a package as plain tar; both
 * go through the same strict reader as every other tar. The result is kept by the SHA-256 of the .deb:
 *
 *   <cacheDir>/unpacked-1/<sha256>.manifest   its files (rbuilds/manifest-file.ts)
 *   <cacheDir>/unpacked-1/<sha256>.control    its control paragraph and scripts; written last
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { writeFileAtomic } from "../core/atomic-file.ts";
import { withDeadline } from "../core/deadline.ts";
import { isErrno, KitError } from "../core/errors.ts";
import type { ManifestEntry } from "../wire/manifest.ts";
import { DEFAULT_PATH } from "./apt-program.ts";
import type { BlobStore } from "./blob-store.ts";
import { FileTree } from "./file-tree.ts";
import { mergeUsrEntries } from "./finishers/usr-merge.ts";
import type { LockedPackage } from "./locked-package.ts";
import { decodeManifest, encodeManifest } from "./manifest-file.ts";
import { isSlimPath } from "./slim-paths.ts";
import { applyTarLayer, DEFAULT_LAYER_LIMITS } from "./tar-layer.ts";
import {
  decodePackageControl,
  encodePackageControl,
  type PackageControl,
  type UnpackedPackage,
} from "./unpacked-package.ts";

const CACHE_FOLDER = "unpacked-1";
const MAX_CACHE_BYTES = 64 * 1024 * 1024;
const MAX_CONTROL_BYTES = 16 * 1024 * 1024;
const UNPACK_TIMEOUT_MS = 300_000;
const MAX_STDERR_BYTES = 64 * 1024;

export interface UnpackOptions {
  readonly blobs: BlobStore;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
}

/** What an earlier unpackDeb kept, if its contents are still in the store. */
export async function readUnpacked(
  entry: LockedPackage,
  options: UnpackOptions,
): Promise<UnpackedPackage | undefined> {
  const base = join(options.cacheDir, CACHE_FOLDER, entry.sha256);
  const [controlText, manifestText] = await Promise.all([
    readCache(`${base}.control`),
    readCache(`${base}.manifest`),
  ]);
  const control = controlText === undefined ? undefined : decodePackageControl(controlText.toString("utf8"));
  if (control === undefined || manifestText === undefined) return undefined;
  const entries = decodeManifest(manifestText).entries.filter((each) => each.path !== "/");
  const digests = entries.flatMap((each) => (each.type === "file" ? [each.digest] : []));
  const present = await Promise.all(digests.map((digest) => options.blobs.has(digest)));
  return present.includes(false) ? undefined : unpackedPackage(entry, entries, control);
}

/**
 * Puts the files of the .deb at `path` into the blob store.
 * @throws E_IMAGE_PACKAGE_CONTENT, and what the tar reader refuses.
 */
export async function unpackDeb(
  entry: LockedPackage,
  path: string,
  options: UnpackOptions,
): Promise<UnpackedPackage> {
  const files = mergedTree(await readArchive("--fsys-tarfile", entry, path, options));
  const control = await readControl(
    await readArchive("--ctrl-tarfile", entry, path, options),
    entry,
    options,
  );
  const folder = join(options.cacheDir, CACHE_FOLDER);
  await mkdir(folder, { recursive: true });
  const manifest = files.toManifest();
  await writeFileAtomic(join(folder, `${entry.sha256}.manifest`), encodeManifest(manifest));
  await writeFileAtomic(join(folder, `${entry.sha256}.control`), encodePackageControl(control));
  return unpackedPackage(
    entry,
    manifest.entries.filter((each) => each.path !== "/"),
    control,
  );
}

function unpackedPackage(
  entry: LockedPackage,
  entries: readonly ManifestEntry[],
  control: PackageControl,
): UnpackedPackage {
  return { name: entry.name, version: entry.version, architecture: entry.architecture, entries, control };
}

/** The files that stay, in merged /usr. A hard link to a file that does not stay becomes the file. */
function mergedTree(files: FileTree): FileTree {
  const kept = files.entries().filter((each) => each.path !== "/" && isSlimPath(each.path));
  const whole = kept.map((each) => {
    const target = each.type === "hardlink" && !isSlimPath(each.target) ? files.get(each.target) : undefined;
    return target?.type === "file" ? { ...target, path: each.path } : each;
  });
  const tree = new FileTree();
  for (const each of mergeUsrEntries(whole)) tree.set(each);
  return tree;
}

async function readCache(path: string): Promise<Buffer | undefined> {
  try {
    const bytes = await readFile(path);
    return bytes.length > MAX_CACHE_BYTES ? undefined : bytes;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

type Archive = "--fsys-tarfile" | "--ctrl-tarfile";

async function readArchive(
  archive: Archive,
  entry: LockedPackage,
  path: string,
  options: UnpackOptions,
): Promise<FileTree> {
  const tree = new FileTree();
  const signal = withDeadline(options.signal, UNPACK_TIMEOUT_MS);
  const child = spawn("dpkg-deb", [archive, path], {
    env: { PATH: DEFAULT_PATH, LC_ALL: "C" },
    stdio: ["ignore", "pipe", "pipe"],
    signal,
    killSignal: "SIGKILL",
  });
  const ending = ended(child);
  try {
    const { blobs } = options;
    const limits = DEFAULT_LAYER_LIMITS;
    await applyTarLayer(child.stdout, {
      tree,
      blobs,
      whiteouts: false,
      limits,
      source: entry.filename,
      signal,
    });
  } catch (error) {
    child.kill("SIGKILL");
    await ending.catch(() => undefined);
    throw error;
  }
  const { status, stderr } = await ending;
  if (status !== 0) {
    throw new KitError(
      "E_IMAGE_PACKAGE_CONTENT",
      `dpkg-deb cannot read ${path} (${entry.filename}): ${stderr.trim()}`,
    );
  }
  return tree;
}

function ended(
  child: ChildProcessByStdio<null, Readable, Readable>,
): Promise<{ status: number; stderr: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; stderr: string }>();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(0, MAX_STDERR_BYTES);
  });
  child.once("error", (error) => {
    const isMissing = isErrno(error, "ENOENT");
    reject(
      isMissing
        ? new KitError("E_IMAGE_APT_MISSING", "dpkg-deb is not on this machine", { cause: error })
        : error,
    );
  });
  child.once("close", (code) => resolve({ status: code ?? 255, stderr }));
  // The caller may fail before it awaits this.
  promise.catch(() => undefined);
  return promise;
}

async function readControl(
  tree: FileTree,
  entry: LockedPackage,
  options: UnpackOptions,
): Promise<PackageControl> {
  const read = async (name: string): Promise<string | undefined> => {
    const file = tree.get(`/${name}`);
    if (file?.type !== "file") return undefined;
    return (await options.blobs.read(file.digest, MAX_CONTROL_BYTES)).toString("utf8");
  };
  const paragraph = await read("control");
  if (paragraph === undefined)
    throw new KitError("E_IMAGE_PACKAGE_CONTENT", `${entry.filename} has no control file`);
  const scripts = [await read("preinst"), await read("postinst")].filter((script) => script !== undefined);
  return {
    paragraph,
    scripts: scripts.filter(isShellScript),
    foreignScripts: scripts.filter((script) => script.startsWith("#!") && !isShellScript(script)),
    md5sums: (await read("md5sums")) ?? "",
  };
}

function isShellScript(script: string): boolean {
  return /^#! ?(?:\/usr)?\/bin\/(?:env )?(?:sh|bash|dash)\b/.test(script);
}
