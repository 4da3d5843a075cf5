import type { EnclaveConfig } from "../wire/enclave-config.ts";

/** A finished image in the cache: what a backend starts. */
export interface BuiltImage {
  /** SHA-256 of the manifest, lower-case hex: names the image. */
  readonly digest: string;
  /** As `digest`, without the measured configuration. */
  readonly filesDigest: string;
  /** File that holds the manifest (rbuilds/manifest-file.ts). */
  readonly manifestPath: string;
  /** As `manifestPath`, of the base alone: before anything of the project was copied. */
  readonly baseManifestPath: string;
  readonly blobsDirectory: string;
  readonly config: EnclaveConfig;
  /** Bytes of all files: what the image takes in the memory of an enclave. */
  readonly contentBytes: number;
  /** Paths of the host bound read-only at the same place; only for `base: host`. */
  readonly hostBinds: readonly string[];
  /** What the operator should know, one sentence each. */
  readonly warnings: readonly string[];
}
