import type { DebianArchitecture } from "../../rbuilds/locked-package.ts";
import type { Caller } from "../backends/local/id-map.ts";

/** Where things are on this machine, worked out once by main.ts. */
export interface Toolkit {
  readonly stateDir: string;
  readonly cacheDir: string;
  readonly architecture: DebianArchitecture;
  readonly caller: Caller;
  /** Node's executable. */
  readonly node: string;
  /** Folder of the native programs: init, launcher, service-exec. */
  readonly nativeDir: string;
  /** Folder of the sources of those, and of the kernel's configuration. */
  readonly sourceDir: string;
  /** Folder of the bundles. */
  readonly distDir: string;
  /** Proxy settings of the environment, for apt. */
  readonly proxies: Readonly<Record<string, string>>;
}
