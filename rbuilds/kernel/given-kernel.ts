/**
 * Kernels that others built.
 *
 *   blobs   a nitro-cli installation's folder: bzImage, bzImage.config, cmdline, and nsm.ko for kernels before 6.8
 *   file    a distribution's vmlinuz and config; modules from lib/modules/VERSION, chosen by name with what they need
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";

import { isErrno, KitError } from "../../core/errors.ts";
import type { KernelSpec } from "../../wire/image-spec.ts";
import type { BlobStore, StoredBlob } from "../blob-store.ts";
import { MAX_CONFIG_BYTES } from "./kernel-config.ts";
import { type ChosenModule, chooseModules } from "./kernel-modules.ts";

export type GivenKernelSpec = Exclude<KernelSpec, { readonly kind: "default" }>;

export interface GivenKernel {
  readonly image: StoredBlob;
  /** Text of its configuration. */
  readonly config: string;
  /** What nitro-cli's folder says; undefined for a distribution's kernel. */
  readonly commandLine: string | undefined;
  /** Files in the order of loading; may be compressed. */
  readonly modules: readonly ChosenModule[];
}

const MAX_KERNEL_BYTES = 256 * 1024 ** 2;
const MAX_COMMAND_LINE_BYTES = 2048;

/** @throws E_KERNEL_FILE for what is missing, too large or no kernel */
export async function openGivenKernel(spec: GivenKernelSpec, blobs: BlobStore): Promise<GivenKernel> {
  const paths = await kernelPaths(spec);
  const { size } = await statFile(paths.image);
  if (size > MAX_KERNEL_BYTES) throw fileError(paths.image, `it has ${size} bytes`);
  return {
    image: await blobs.putFile(paths.image, { maxBytes: MAX_KERNEL_BYTES }),
    config: await readText(paths.config, MAX_CONFIG_BYTES),
    commandLine:
      paths.commandLine === undefined
        ? undefined
        : (await readText(paths.commandLine, MAX_COMMAND_LINE_BYTES)).trim(),
    modules: paths.modules,
  };
}

/** SHA-256 by name of every file that goes into the image or decides what goes in. */
export async function digestKernelFiles(spec: GivenKernelSpec): Promise<Record<string, string>> {
  const { image, config, commandLine, modules } = await kernelPaths(spec);
  const paths = [image, config, ...(commandLine === undefined ? [] : [commandLine])];
  const digests: Record<string, string> = {};
  for (const path of [...paths, ...modules.map((module) => module.path)])
    digests[basename(path)] = await digestFile(path);
  return digests;
}

interface KernelPaths {
  readonly image: string;
  readonly config: string;
  readonly commandLine: string | undefined;
  readonly modules: readonly ChosenModule[];
}

async function kernelPaths(spec: GivenKernelSpec): Promise<KernelPaths> {
  if (spec.kind === "file") {
    const modules = spec.modules === undefined ? [] : await chooseModules(spec.modules);
    return { image: spec.file, config: spec.config, commandLine: undefined, modules };
  }
  const file = (name: string): string => join(spec.directory, name);
  const nsm = (await isFile(file("nsm.ko"))) ? [{ name: "nsm", path: file("nsm.ko") }] : [];
  return {
    image: file("bzImage"),
    config: file("bzImage.config"),
    commandLine: file("cmdline"),
    modules: nsm,
  };
}

async function digestFile(path: string): Promise<string> {
  await statFile(path);
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

async function readText(path: string, maxBytes: number): Promise<string> {
  const { size } = await statFile(path);
  if (size > maxBytes) throw fileError(path, `it has ${size} bytes; at most ${maxBytes} are read`);
  return await readFile(path, "utf8");
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (info) => info.isFile(),
    () => false,
  );
}

async function statFile(path: string): Promise<{ readonly size: number }> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw fileError(path, "it is no regular file");
    return info;
  } catch (error) {
    if (isErrno(error)) throw fileError(path, error.code ?? "cannot be read", error);
    throw error;
  }
}

function fileError(path: string, why: string, cause?: unknown): KitError {
  return new KitError("E_KERNEL_FILE", `${path}: ${why}`, { cause });
}
