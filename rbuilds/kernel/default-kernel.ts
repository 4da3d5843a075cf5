/** The kernel of `kernel: default`: Debian's source package, our configuration, the toolchain of the lock. Built once. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

import { KitError } from "../../core/errors.ts";
import type { StoredBlob } from "../blob-store.ts";
import { openPackages, type OpenPackagesOptions } from "../debian-packages.ts";
import type { LockedPackage } from "../locked-package.ts";
import { compile, type CompileOptions } from "../toolchain/compile.ts";
import { MAX_CONFIG_BYTES, findUnmet, parseKernelConfig } from "./kernel-config.ts";
import { kernelScript } from "./kernel-script.ts";

/** Of every Debian release that the toolkit supports. */
export const KERNEL_SOURCE_PACKAGE = "linux-source-6.12";

const BUILD_TIMEOUT_MS = 2 * 3600 * 1000;
/** Sources and objects together take about 1.5 GiB. */
const BUILD_BYTES = 4 * 1024 ** 3;
const MAX_KERNEL_BYTES = 256 * 1024 ** 2;

export interface KernelFiles {
  /** bzImage */
  readonly image: StoredBlob;
  readonly config: StoredBlob;
}

export interface DefaultKernelRequest {
  readonly source: LockedPackage;
  /** native/kernel/<architecture>.config */
  readonly fragmentPath: string;
  /** Compilers at once; changes nothing in the result. */
  readonly jobs: number;
}

export type DefaultKernelOptions = Omit<OpenPackagesOptions, "onProgress"> & Omit<CompileOptions, "onLine">;

/**
 * The kernel, from the cache where it was built before.
 * @throws E_KERNEL_FRAGMENT if the source does not take our configuration, E_KERNEL_SOURCE, E_TOOLCHAIN_*, and what
 *   openPackages throws
 */
export async function openDefaultKernel(
  request: DefaultKernelRequest,
  options: DefaultKernelOptions,
): Promise<KernelFiles> {
  const fragment = await readFile(request.fragmentPath, "utf8");
  const results = await compile(
    {
      title: "the kernel",
      key: { source: request.source.sha256, fragment: createHash("sha256").update(fragment).digest("hex") },
      script: kernelScript(request),
      scriptKey: kernelScript({ jobs: 0 }),
      inputs: [
        { source: await findSourceArchive(request.source, options), target: "/inputs/linux.tar.xz" },
        { source: request.fragmentPath, target: "/inputs/fragment.config" },
      ],
      results: ["bzImage", "config"],
      tmpfsBytes: BUILD_BYTES,
      timeoutMs: BUILD_TIMEOUT_MS,
      maxResultBytes: MAX_KERNEL_BYTES,
    },
    { ...options, onLine: countFiles(options.onStep) },
  );
  const [image, config] = [results.get("bzImage"), results.get("config")];
  if (image === undefined || config === undefined)
    throw new TypeError("a result that was asked for is missing");
  await checkFragment(fragment, (await options.blobs.read(config.digest, MAX_CONFIG_BYTES)).toString("utf8"));
  return { image, config };
}

/** A source that does not know an option drops it without a word. */
async function checkFragment(fragment: string, config: string): Promise<void> {
  const unmet = findUnmet(fragment, parseKernelConfig(config));
  if (unmet.length > 0)
    throw new KitError("E_KERNEL_FRAGMENT", `the kernel's source does not take ${unmet.join(", ")}`);
}

function countFiles(onStep: DefaultKernelOptions["onStep"]): (line: string) => void {
  let files = 0;
  return (line) => {
    if (!/^ {2}(?:CC|AS|LD|AR|HOSTCC) /.test(line)) return;
    files += 1;
    if (files % 20 === 1) onStep?.(`compiling the kernel, once: ${files} files`);
  };
}

async function findSourceArchive(source: LockedPackage, options: DefaultKernelOptions): Promise<string> {
  const { onStep: _, ...rest } = options;
  const [unpacked] = await openPackages([source], rest);
  const archive = unpacked?.entries.find(
    (entry) => entry.type === "file" && /^\/usr\/src\/linux-source-[^/]+\.tar\.xz$/.test(entry.path),
  );
  if (archive?.type !== "file")
    throw new KitError("E_KERNEL_SOURCE", `${source.filename} has no /usr/src/linux-source-*.tar.xz`);
  return options.blobs.path(archive.digest);
}
