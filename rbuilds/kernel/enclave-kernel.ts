/** The kernel of an enclave image with everything that belongs to it, checked for what an enclave needs. */
import { readFile, stat } from "node:fs/promises";
import { gunzipSync, zstdDecompressSync } from "node:zlib";

import { KitError } from "../../core/errors.ts";
import type { KernelSpec } from "../../wire/image-spec.ts";
import type { StoredBlob } from "../blob-store.ts";
import type { LockedPackage } from "../locked-package.ts";
import { compile, resultScript } from "../toolchain/compile.ts";
import { type DefaultKernelOptions, openDefaultKernel } from "./default-kernel.ts";
import { openGivenKernel } from "./given-kernel.ts";
import { checkKernelFeatures, MAX_CONFIG_BYTES, parseKernelConfig } from "./kernel-config.ts";
import type { ChosenModule } from "./kernel-modules.ts";

export interface EnclaveKernel {
  readonly image: StoredBlob;
  readonly commandLine: string;
  /** Such as "6.12.117"; "unknown" where the configuration does not say. */
  readonly version: string;
  /** In the order of loading, uncompressed. */
  readonly modules: readonly { readonly name: string; readonly blob: StoredBlob }[];
  /** What its ramdisks may be compressed with. */
  readonly compression: "zstd" | "none";
}

export interface EnclaveKernelRequest {
  readonly spec: KernelSpec;
  /** For `default`. */
  readonly source: LockedPackage | undefined;
  readonly fragmentPath: string;
  readonly jobs: number;
}

/** AWS's own line without what concerns devices that our configuration does not have. */
const COMMAND_LINE = "reboot=k panic=30 pci=off console=ttyS0 random.trust_cpu=on";
const MAX_MODULE_BYTES = 64 * 1024 ** 2;
const TMPFS_BYTES = 512 * 1024 ** 2;
const TIMEOUT_MS = 120_000;

/** @throws E_KERNEL_FEATURE, E_KERNEL_FILE, E_KERNEL_SOURCE, E_KERNEL_FRAGMENT, E_TOOLCHAIN_* */
export async function openEnclaveKernel(
  request: EnclaveKernelRequest,
  options: DefaultKernelOptions,
): Promise<EnclaveKernel> {
  const { spec, source, fragmentPath, jobs } = request;
  if (spec.kind !== "default") return await openGiven(spec, options);
  if (options.architecture !== "amd64")
    throw new KitError("E_CONFIG_UNSUPPORTED", "this release has a kernel of its own for x86-64 only", {
      hint: "Name one under image.kernel: { blobs: DIR } or { file:, config:, modules: }.",
    });
  if (source === undefined) throw new KitError("E_KERNEL_SOURCE", "the lock names no source of the kernel");
  const files = await openDefaultKernel({ source, fragmentPath, jobs }, options);
  const config = (await options.blobs.read(files.config.digest, MAX_CONFIG_BYTES)).toString("utf8");
  return {
    ...describeKernel(config, "our kernel", []),
    image: files.image,
    commandLine: COMMAND_LINE,
    modules: [],
  };
}

async function openGiven(
  spec: Exclude<KernelSpec, { kind: "default" }>,
  options: DefaultKernelOptions,
): Promise<EnclaveKernel> {
  const { image, config, commandLine, modules } = await openGivenKernel(spec, options.blobs);
  const source = spec.kind === "blobs" ? `the kernel of ${spec.directory}` : spec.file;
  const names = modules.map((module) => module.name);
  return {
    ...describeKernel(config, source, names),
    image,
    commandLine: commandLine ?? COMMAND_LINE,
    modules: await openModules(modules, options),
  };
}

function describeKernel(
  text: string,
  source: string,
  modules: readonly string[],
): Pick<EnclaveKernel, "version" | "compression"> {
  const config = parseKernelConfig(text);
  checkKernelFeatures(config, { source, modules });
  const compression = config.options.get("RD_ZSTD") === "y" ? "zstd" : "none";
  return { version: config.version ?? "unknown", compression };
}

async function openModules(
  modules: readonly ChosenModule[],
  options: DefaultKernelOptions,
): Promise<EnclaveKernel["modules"]> {
  const opened = [];
  for (const { name, path } of modules) opened.push({ name, blob: await openModule(path, options) });
  return opened;
}

async function openModule(path: string, options: DefaultKernelOptions): Promise<StoredBlob> {
  const { blobs } = options;
  const { size } = await stat(path);
  if (size > MAX_MODULE_BYTES) throw new KitError("E_KERNEL_FILE", `${path} has ${size} bytes`);
  if (path.endsWith(".xz")) return await expandXz(path, options);
  const bytes = await readFile(path);
  const expand = path.endsWith(".gz") ? gunzipSync : path.endsWith(".zst") ? zstdDecompressSync : undefined;
  if (expand === undefined) return await blobs.put(bytes);
  try {
    return await blobs.put(expand(bytes, { maxOutputLength: MAX_MODULE_BYTES }));
  } catch (cause) {
    const why = "cannot be decompressed, or has too many bytes";
    throw new KitError("E_KERNEL_FILE", `${path} ${why}`, { cause });
  }
}

/** Node has no xz; the toolchain has. */
async function expandXz(path: string, options: DefaultKernelOptions): Promise<StoredBlob> {
  const input = await options.blobs.putFile(path, { maxBytes: MAX_MODULE_BYTES });
  const results = await compile(
    {
      title: path,
      key: { expanded: input.digest },
      script: resultScript("xz -dc /inputs/module.ko.xz > result/module.ko"),
      inputs: [{ source: path, target: "/inputs/module.ko.xz" }],
      results: ["module.ko"],
      tmpfsBytes: TMPFS_BYTES,
      timeoutMs: TIMEOUT_MS,
      maxResultBytes: MAX_MODULE_BYTES,
    },
    options,
  );
  const module = results.get("module.ko");
  if (module === undefined) throw new TypeError("the result is missing");
  return module;
}
