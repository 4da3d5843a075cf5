/** Puts the toolkit's own files into a root file system, at the places of wire/runtime-layout.ts. */
import type { EnclaveConfig } from "../wire/enclave-config.ts";
import { RUNTIME } from "../wire/runtime-layout.ts";
import type { BlobStore, StoredBlob } from "./blob-store.ts";
import { canonicalJson } from "./canonical-json.ts";
import { importFile } from "./file-import.ts";
import type { FileTree } from "./file-tree.ts";
import { ensureDirectory } from "./finishers/finish-context.ts";
import type { RuntimeLibraries } from "./runtime-libraries.ts";

/** The toolkit's own files that go into every image; paths on this machine. */
export interface RuntimeFiles {
  readonly node: string;
  readonly init: string;
  readonly serviceExec: string;
  /** Makes /dev/nsm in a development guest. */
  readonly nsmDevice: string;
  /** Addon for Node. */
  readonly addon: string;
  readonly supervisor: string;
  readonly gateway: string;
  readonly gatewayApi: string;
  readonly gatewayShared: string;
  readonly raServer: string;
  readonly archive: string;
  readonly initctl: string;
  readonly initctlProgram: string;
}

/** What is compiled in C, by the host or by the toolchain of an image. */
export type CompiledFiles = Pick<
  RuntimeFiles,
  "init" | "serviceExec" | "nsmDevice" | "initctlProgram" | "addon"
>;
/** Node and our bundles. */
export type BundledFiles = Omit<RuntimeFiles, keyof CompiledFiles>;

export interface RuntimeOptions extends RuntimeFiles {
  /** "host": Node uses the libraries of the machine, whose /usr is bound into the enclave. */
  readonly libraries: RuntimeLibraries | "host";
  readonly config: EnclaveConfig;
  readonly cacheDir: string;
  readonly signal?: AbortSignal | undefined;
}

const EXECUTABLE = 0o755;
const READABLE = 0o644;
/** The configuration holds the environment of every service: for the supervisor alone. */
const SECRET = 0o600;
/** init mounts over these; an image without them (a single static program) gets them. */
const MOUNT_POINTS = ["/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/var"] as const;

/**
 * Adds the runtime, replacing whatever the image has at RUNTIME.directory. All files are root's, 0755 or 0644.
 * @throws E_IMAGE_RUNTIME if a file is missing, E_IMAGE_PATH if the image has a file where a folder must be.
 */
export async function addRuntime(tree: FileTree, blobs: BlobStore, options: RuntimeOptions): Promise<void> {
  tree.remove(RUNTIME.directory);
  for (const path of MOUNT_POINTS) ensureDirectory(tree, path, { mode: path === "/tmp" ? 0o1777 : 0o755 });
  const imports = [
    [RUNTIME.init, options.init, EXECUTABLE],
    [RUNTIME.serviceExec, options.serviceExec, EXECUTABLE],
    [RUNTIME.nsmDevice, options.nsmDevice, EXECUTABLE],
    [RUNTIME.node, options.node, EXECUTABLE],
    [RUNTIME.addon, options.addon, READABLE],
    [RUNTIME.supervisor, options.supervisor, READABLE],
    [RUNTIME.gateway, options.gateway, READABLE],
    [RUNTIME.gatewayApi, options.gatewayApi, READABLE],
    [RUNTIME.gatewayShared, options.gatewayShared, READABLE],
    [RUNTIME.raServer, options.raServer, READABLE],
    [RUNTIME.archive, options.archive, READABLE],
    [RUNTIME.initctl, options.initctl, READABLE],
    [RUNTIME.initctlProgram, options.initctlProgram, EXECUTABLE],
  ] as const;
  for (const [path, source, mode] of imports) {
    addFile(tree, path, mode, await importFile(source, { blobs, ...options }));
  }
  if (options.libraries !== "host") addLibraries(tree, options.libraries);
  const argv = supervisorArgv(options.libraries);
  addFile(tree, RUNTIME.supervisorArgv, READABLE, await blobs.put(Buffer.from(argv)));
  addFile(tree, RUNTIME.config, SECRET, await blobs.put(Buffer.from(`${canonicalJson(options.config)}\n`)));
}

/**
 * The command that runs a script with the image's Node: through the private loader where the image has one. It runs
 * under the loader's name then, so `process.execPath` is not Node's path and must not be used to start another.
 * @param name argv[0], which process listings show.
 */
export function nodeCommand(
  libraries: RuntimeLibraries | "host",
  script: string,
  name: string,
): readonly string[] {
  if (libraries === "host") return [RUNTIME.node, script];
  return [RUNTIME.loader, "--library-path", RUNTIME.libraries, "--argv0", name, RUNTIME.node, script];
}

/** One argument a line. A small young generation keeps a supervisor that carries much output from growing. */
function supervisorArgv(libraries: RuntimeLibraries | "host"): string {
  return nodeCommand(libraries, RUNTIME.supervisor, "supervisor")
    .toSpliced(-1, 0, "--max-semi-space-size=2")
    .map((argument) => `${argument}\n`)
    .join("");
}

function addLibraries(tree: FileTree, { loader, libraries }: RuntimeLibraries): void {
  addFile(tree, RUNTIME.loader, EXECUTABLE, loader);
  for (const library of libraries) addFile(tree, `${RUNTIME.libraries}/${library.name}`, READABLE, library);
}

function addFile(tree: FileTree, path: string, mode: number, { digest, size }: StoredBlob): void {
  tree.set({ path, type: "file", mode, uid: 0, gid: 0, digest, size });
}
