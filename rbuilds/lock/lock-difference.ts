/** What two locks say differently, for people and for the refusal of a lock that does not fit. */
import type { LockedPackage } from "../locked-package.ts";
import type { EnclaveLock, LockedBase, LockedKernel } from "./enclave-lock.ts";

export interface LockChange {
  /** Part of the lock: "packages", "toolchain", "kernel", "base", "toolkit", "architecture". */
  readonly part: keyof EnclaveLock;
  readonly name: string;
  /** null: was not, or is not there. */
  readonly from: string | null;
  readonly to: string | null;
}

/** Changes from `before` to `after`, in the order of the file. */
export function compareLocks(before: EnclaveLock, after: EnclaveLock): LockChange[] {
  return [
    ...compareRecords(
      "architecture",
      { architecture: before.architecture },
      { architecture: after.architecture },
    ),
    ...compareRecords("toolkit", shorten(before.toolkit), shorten(after.toolkit)),
    ...compareRecords("base", describeBase(before.base), describeBase(after.base)),
    ...compareRecords("packages", describePackages(before.packages), describePackages(after.packages)),
    ...compareRecords("toolchain", describePackages(before.toolchain), describePackages(after.toolchain)),
    ...compareRecords("kernel", describeKernel(before.kernel), describeKernel(after.kernel)),
  ];
}

/** Such as "packages: redis-server 5:7.0.15-1 -> 5:7.0.16-1". */
export function renderChange({ part, name, from, to }: LockChange): string {
  if (from === null) return `${part}: + ${name} ${to ?? ""}`.trimEnd();
  if (to === null) return `${part}: - ${name} ${from}`;
  return `${part}: ${name} ${from} -> ${to}`;
}

type Descriptions = Readonly<Record<string, string>>;

function compareRecords(part: keyof EnclaveLock, before: Descriptions, after: Descriptions): LockChange[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names
    .map((name) => ({ part, name, from: before[name] ?? null, to: after[name] ?? null }))
    .filter(({ from, to }) => from !== to);
}

/** Version, and where that does not tell the bytes apart, the digest. */
function describePackages(packages: readonly LockedPackage[]): Descriptions {
  return Object.fromEntries(
    packages.map(({ name, version, sha256 }) => [name, `${version} (${sha256.slice(0, 12)})`]),
  );
}

function describeKernel(kernel: LockedKernel): Descriptions {
  return kernel.kind === "default" ? describePackages([kernel.source]) : shorten(kernel.files);
}

function describeBase(base: LockedBase): Descriptions {
  switch (base.kind) {
    case "debian":
      return { debian: base.names.join(", ") };
    case "oci":
      return {
        config: base.config,
        ...Object.fromEntries(base.layers.map((layer, n) => [`layer ${n}`, layer])),
      };
    case "directory":
      return { directory: "of the project" };
  }
}

function shorten(digests: Descriptions): Descriptions {
  return Object.fromEntries(Object.entries(digests).map(([name, digest]) => [name, digest.slice(0, 12)]));
}
