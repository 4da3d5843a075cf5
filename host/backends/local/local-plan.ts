/** What the local backend needs to know of an image, worked out before the runner starts: a plain value. */
import { mkdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";

import { isErrorCode } from "../../../core/error-table.ts";
import { isErrno, KitError } from "../../../core/errors.ts";
import type { BuiltImage } from "../../../rbuilds/built-image.ts";
import { decodeManifest } from "../../../rbuilds/manifest-file.ts";
import { openBlobStore } from "../../../rbuilds/blob-store.ts";
import { materialiseTree, removeTree, type TreeOwners } from "../../../rbuilds/tree.ts";
import { type Caller, chooseIdMap, hostRootUid, type IdMap, idMapKey } from "./id-map.ts";
import { doomedName, findOldTrees, touchTree } from "./tree-cache.ts";
import { runInUserNamespace, userNamespaceRefusal } from "./user-namespace.ts";

const MIB = 1024 ** 2;
/** What the enclave's own processes need beside the image. */
const HEADROOM_BYTES = 128 * MIB;

export interface LocalPlan {
  readonly map: IdMap;
  /** Root file system on the host. */
  readonly tree: string;
  /** uid on the host of root inside. */
  readonly rootUid: number;
  readonly hostBinds: readonly string[];
  /** Size limit of what the enclave may write to its root file system. */
  readonly tmpfsBytes: number;
  readonly memoryBytes: number;
  readonly cpus: number;
}

export interface LocalPrograms {
  readonly node: string;
  readonly launcher: string;
  /** dist/tree.js */
  readonly treeProgram: string;
}

export interface PlanOptions {
  readonly image: BuiltImage;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly cacheDir: string;
  readonly caller: Caller;
  readonly programs: LocalPrograms;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

/**
 * Checks that the image can run here and makes its files.
 * @throws E_HOST_IMAGE_TOO_LARGE, E_HOST_SINGLE_UID, E_HOST_USER_NAMESPACES, E_IMAGE_TREE, E_DISK_FULL
 */
export async function planLocal(options: PlanOptions): Promise<LocalPlan> {
  const { image, memoryBytes } = options;
  checkMemory(image, memoryBytes);
  const map = await chooseIdMap(options.caller);
  if (map.kind === "single") checkSingleUid(image);
  const tree = join(options.cacheDir, "trees", `${image.digest}-${idMapKey(map)}`);
  await ensureTree(tree, map, options);
  return {
    map,
    tree,
    rootUid: hostRootUid(map, options.caller.uid),
    hostBinds: image.hostBinds,
    tmpfsBytes: memoryBytes - image.contentBytes,
    memoryBytes,
    cpus: options.cpus,
  };
}

/** As on hardware, where the image lies in the enclave's memory. */
function checkMemory(image: BuiltImage, memoryBytes: number): void {
  const neededBytes = image.contentBytes + HEADROOM_BYTES;
  if (neededBytes <= memoryBytes) return;
  const neededMib = Math.ceil(neededBytes / (64 * MIB)) * 64;
  const message = `the image has ${Math.ceil(image.contentBytes / MIB)} MiB of files; the enclave has ${Math.floor(memoryBytes / MIB)} MiB of memory`;
  throw new KitError("E_HOST_IMAGE_TOO_LARGE", message, {
    hint: `Set resources: { memory: ${neededMib}MiB } or more.`,
  });
}

function checkSingleUid({ config }: BuiltImage): void {
  const other = config.services.find(({ user }) => user.uid !== 0 && user.assigned !== true);
  const options =
    "install newuidmap (Debian package uidmap) with a line for you in /etc/subuid and /etc/subgid, or run as root";
  if (config.mode === "production") {
    throw new KitError(
      "E_HOST_SINGLE_UID",
      "mode: production needs a range of user ids, and this user has one id",
      {
        hint: `To get a range: ${options}.`,
      },
    );
  }
  if (other === undefined || config.singleUser) return;
  const message = `service ${other.name} runs as user ${other.user.name}, and this machine gives you one user id`;
  const hint = `Either ${options}, or allow one id for all services with local: { single_user: true }.`;
  throw new KitError("E_HOST_SINGLE_UID", message, { hint });
}

async function ensureTree(tree: string, map: IdMap, options: PlanOptions): Promise<void> {
  if (await touchTree(tree)) return;
  options.onProgress("writing the root file system");
  const trees = join(options.cacheDir, "trees");
  await mkdir(trees, { recursive: true });
  if (map.kind === "user-range") await writeInNamespace(tree, map, options);
  else await writeHere(tree, map, options);
  await pruneTrees(trees, map, options);
}

async function writeHere(tree: string, map: IdMap, { image, signal }: PlanOptions): Promise<void> {
  const owners: TreeOwners = map.kind === "root-range" ? { ...map, kind: "shifted" } : { kind: "single" };
  const blobs = await openBlobStore(image.blobsDirectory);
  const manifest = decodeManifest(await readFile(image.manifestPath));
  await materialiseTree(manifest, tree, { owners, blobPath: blobs.path, signal });
}

async function writeInNamespace(tree: string, map: IdMap, options: PlanOptions): Promise<void> {
  const { programs, image, signal } = options;
  const command = [
    programs.node,
    programs.treeProgram,
    "write",
    image.manifestPath,
    image.blobsDirectory,
    tree,
  ];
  const { status, stdout, stderr } = await runInUserNamespace(programs.launcher, map, command, signal);
  if (status === 0) return;
  if (stdout === "") throw await userNamespaceRefusal(stderr.trim() || `status ${String(status)}`);
  throw toldRefusal(stdout, tree);
}

/** The refusal that tree.js printed as JSON. */
function toldRefusal(stdout: string, tree: string): KitError {
  const told: unknown = JSON.parse(stdout);
  const fields: Readonly<Record<string, unknown>> = typeof told === "object" ? { ...told } : {};
  const { code, message } = fields;
  const known = typeof code === "string" && isErrorCode(code) ? code : "E_IMAGE_TREE";
  return new KitError(known, typeof message === "string" ? message : `cannot write ${tree}`);
}

async function pruneTrees(trees: string, map: IdMap, { programs, signal }: PlanOptions): Promise<void> {
  for (const tree of await findOldTrees(trees, `-${idMapKey(map)}`)) {
    const doomed = doomedName(tree);
    if (!(await takeAway(tree, doomed))) continue;
    if (map.kind !== "user-range") await removeTree(doomed);
    else
      await runInUserNamespace(
        programs.launcher,
        map,
        [programs.node, programs.treeProgram, "remove", doomed],
        signal,
      );
  }
}

/** False where another command was faster. */
async function takeAway(tree: string, doomed: string): Promise<boolean> {
  try {
    await rename(tree, doomed);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}
