import type { ServiceUser } from "../wire/enclave-config.ts";

/** What an OCI image says about the program it wants to run; empty for other bases. */
export interface ImageDefaults {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string | undefined;
  readonly user: string | undefined;
}

export const NO_DEFAULTS: ImageDefaults = {
  entrypoint: [],
  cmd: [],
  env: {},
  workingDir: undefined,
  user: undefined,
};

/** What only the finished root file system can tell; the configuration is made from it. */
export interface ImageFacts {
  readonly defaults: ImageDefaults;
  /** Looks `spec` (name, uid, name:group, uid:gid) up in the image's passwd and group. @throws E_IMAGE_USER_UNKNOWN */
  resolveUser(spec: string): Promise<ServiceUser>;
}
