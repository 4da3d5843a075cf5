/**
 * Configurations of Linux kernels.
 *
 *   # Linux/x86 6.12.117 Kernel Configuration     the third line of a finished one
 *   CONFIG_VSOCKETS=y                             built in; `m`: a module; `"text"` and numbers as they are
 *   # CONFIG_MODULES is not set                   no; so is what is not there
 */
import { KitError } from "../../core/errors.ts";
import { DEFAULT_FEATURES, type KernelFeature } from "./kernel-features.ts";

/** Debian's have 300 kB. */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

export interface KernelConfig {
  /** Such as "6.12.117"; undefined where the file does not say. */
  readonly version: string | undefined;
  /** Value by name without CONFIG_; what is "n" is not there. */
  readonly options: ReadonlyMap<string, string>;
}

/** Reads a configuration or a fragment of one; lines of another form are comments. */
export function parseKernelConfig(text: string): KernelConfig {
  const options = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, name, value] = /^CONFIG_([A-Za-z0-9_]+)=(.+)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined && value !== "n") options.set(name, value);
  }
  const [, version] = /^# Linux\/\S+ (\S+) Kernel Configuration$/m.exec(text) ?? [];
  return { version, options };
}

/** Options of a fragment that the finished configuration does not have, as the fragment writes them. */
export function findUnmet(fragment: string, { options }: KernelConfig): string[] {
  const wanted = fragment.matchAll(/^CONFIG_([A-Za-z0-9_]+)=(.+)$/gm);
  return [...wanted]
    .filter(([, name = "", value = ""]) => (options.get(name) ?? "n") !== value)
    .map(([line]) => line);
}

export interface KernelCheck {
  /** Names the kernel in messages. */
  readonly source: string;
  /** Names of modules that the boot ramdisk loads, such as "virtio_mmio". */
  readonly modules: readonly string[];
}

/** @throws E_KERNEL_FEATURE naming every feature that an enclave needs and this kernel lacks */
export function checkKernelFeatures(config: KernelConfig, { source, modules }: KernelCheck): void {
  const missing = DEFAULT_FEATURES.filter((feature) => !hasFeature(config, feature, modules));
  if (missing.length === 0) return;
  const list = missing.map(({ option, reason }) => `CONFIG_${option} (${reason})`).join(", ");
  throw new KitError("E_KERNEL_FEATURE", `${source} lacks ${list}`, {
    details: { missing: missing.map(({ option }) => option) },
  });
}

function hasFeature(
  { options }: KernelConfig,
  { option, module }: KernelFeature,
  modules: readonly string[],
): boolean {
  const value = options.get(option);
  return value === "y" || (value === "m" && module !== undefined && modules.includes(module));
}
