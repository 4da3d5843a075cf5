/** The image part of enclave.yaml with paths made absolute; what is not there is refused with its place. */
import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";
import type { YamlFile, YamlPath } from "../../core/yaml-file.ts";
import type { BaseSpec, ImageSpec, KernelSpec, PackageSource } from "../../wire/image-spec.ts";
import type { EnclaveYaml } from "./enclave-schema.ts";

type ImageYaml = EnclaveYaml["image"];

/** @throws E_CONFIG_FILE_MISSING */
export async function resolveImage(yaml: EnclaveYaml, file: YamlFile): Promise<ImageSpec> {
  const base = await resolveBase(yaml.image.base, file);
  const copy = [];
  for (const [index, item] of yaml.image.copy.entries()) {
    const from = await resolveExisting(item.from, file, ["image", "copy", index, "from"]);
    copy.push({ from, to: item.to });
  }
  const kernel = await resolveKernel(yaml.image.kernel, file);
  return { base, copy, kernel, sources: await resolveSources(yaml.image.sources, file) };
}

async function resolveBase(base: ImageYaml["base"], file: YamlFile): Promise<BaseSpec> {
  if (base === "host") return { kind: "host" };
  if ("debian" in base) return { kind: "debian", packages: base.debian };
  if ("oci" in base) {
    return { kind: "oci", path: await resolveExisting(base.oci, file, ["image", "base", "oci"]) };
  }
  const path = await resolveExisting(base.directory, file, ["image", "base", "directory"]);
  return { kind: "directory", path };
}

async function resolveKernel(kernel: ImageYaml["kernel"], file: YamlFile): Promise<KernelSpec> {
  if (kernel === "default") return { kind: "default" };
  const at: YamlPath = ["image", "kernel"];
  if ("blobs" in kernel)
    return { kind: "blobs", directory: await resolveExisting(kernel.blobs, file, [...at, "blobs"]) };
  const { modules } = kernel;
  const path = await resolveExisting(kernel.file, file, [...at, "file"]);
  return {
    kind: "file",
    file: path,
    config: await resolveExisting(kernel.config ?? configBeside(path), file, [...at, "config"]),
    modules: modules === undefined ? undefined : await resolveExisting(modules, file, [...at, "modules"]),
  };
}

/** As distributions install them: /boot/vmlinuz-6.1.0 and /boot/config-6.1.0. */
function configBeside(path: string): string {
  return join(dirname(path), basename(path).replace(/^(?:vmlinuz|bzImage)/, "config"));
}

async function resolveSources(sources: ImageYaml["sources"], file: YamlFile): Promise<PackageSource[]> {
  const resolved: PackageSource[] = [];
  for (const [index, source] of sources.entries()) {
    if ("snapshot" in source) {
      const { snapshot: url, suites, components } = source;
      resolved.push({ kind: "snapshot", url, suites, components });
      continue;
    }
    const path = await resolveExisting(source.directory, file, ["image", "sources", index, "directory"]);
    resolved.push({ kind: "directory", path });
  }
  return resolved;
}

/** @throws E_CONFIG_FILE_MISSING */
async function resolveExisting(path: string, file: YamlFile, at: YamlPath): Promise<string> {
  const absolute = resolve(dirname(file.path), path);
  try {
    await stat(absolute);
    return absolute;
  } catch (error) {
    const reason = isErrno(error) ? error.code : String(error);
    const message = `${file.locate(at)}: ${at.join(".")}: cannot read ${absolute}: ${reason}`;
    throw new KitError("E_CONFIG_FILE_MISSING", message, { cause: error });
  }
}
