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

/** The kernel of an enclave image; the local backend has none. */
export type KernelSpec =
  /** Our own build of Debian's source. */
  | { readonly kind: "default" }
  /** Folder of a nitro-cli installation: bzImage, bzImage.config, cmdline, and nsm.ko where the kernel needs it. */
  | { readonly kind: "blobs"; readonly directory: string }
  /** A distribution's kernel with its configuration, and the folder of its modules (lib/modules/VERSION). */
  | {
      readonly kind: "file";
      readonly file: string;
      readonly config: string;
      readonly modules: string | undefined;
    };

/** Where packages come from besides the system's own sources. */
export type PackageSource =
  /** A folder of .deb files. */
  | { readonly kind: "directory"; readonly path: string }
  /** An archive that keeps old versions, such as a snapshot of Debian's at one moment. */
  | {
      readonly kind: "snapshot";
      readonly url: string;
      readonly suites: readonly string[];
      readonly components: readonly string[];
    };

export interface ImageSpec {
  readonly base: BaseSpec;
  readonly copy: readonly CopySpec[];
  readonly kernel: KernelSpec;
  readonly sources: readonly PackageSource[];
}
