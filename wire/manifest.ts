/**
 * The root file system as data. An ordinary user cannot make files of other owners, so owners, modes and devices
 * live here, never in stat(): trees and ramdisks are written from the manifest and the blob store.
 *
 * Paths are absolute, normalised, without a trailing slash; the root directory itself is "/". Entries are sorted by
 * the bytes of their path; every parent directory is present and comes before its children.
 */
interface EntryBase {
  readonly path: string;
  /** Permission, setuid, setgid and sticky bits (07777). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Extended attributes, values in base64; absent if none. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

export type ManifestEntry =
  | (EntryBase & { readonly type: "directory" })
  /** digest: lower-case hex SHA-256 of the content in the blob store. */
  | (EntryBase & { readonly type: "file"; readonly digest: string; readonly size: number })
  | (EntryBase & { readonly type: "symlink"; readonly target: string })
  /** A further name of the regular file at `target` (a path of this manifest that sorts anywhere). */
  | (EntryBase & { readonly type: "hardlink"; readonly target: string })
  | (EntryBase & {
      readonly type: "character" | "block";
      readonly major: number;
      readonly minor: number;
    })
  | (EntryBase & { readonly type: "fifo" });

export interface Manifest {
  readonly version: 1;
  readonly entries: readonly ManifestEntry[];
}
