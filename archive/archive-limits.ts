/** What a copy may hold. */

export interface ArchiveLimits {
  /** Files, directories and links. */
  readonly maxEntries: number;
  /** Of the path of an entry in the archive. */
  readonly maxPathBytes: number;
  /** Directories above an entry and itself. Each is one open descriptor. */
  readonly maxDepth: number;
  /** Of the content of all files together; without limit where absent. */
  readonly maxTotalBytes?: number;
}

export const DEFAULT_ARCHIVE_LIMITS: ArchiveLimits = {
  maxEntries: 1_000_000,
  maxPathBytes: 4096,
  maxDepth: 256,
};

/** The kernel's, of one name. */
export const MAX_NAME_BYTES = 255;
/** The kernel's, of what a symbolic link says. */
export const MAX_TARGET_BYTES = 4095;
