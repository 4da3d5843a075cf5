/** What a root file system is made from, after validation of enclave.yaml; paths are absolute. */
export type BaseSpec =
  /** Debian packages by name; the closure is resolved and locked. */
  | { readonly kind: "debian"; readonly packages: readonly string[] }
  /** OCI layout directory, tar of one, or a `docker save` tar. */
  | { readonly kind: "oci"; readonly path: string }
  | { readonly kind: "directory"; readonly path: string }
  /** The host's /usr, read-only; local backend only. */
  | { readonly kind: "host" };

export interface CopySpec {
  readonly from: string;
  /** Absolute path in the image. */
  readonly to: string;
}

export interface ImageSpec {
  readonly base: BaseSpec;
  readonly copy: readonly CopySpec[];
}
