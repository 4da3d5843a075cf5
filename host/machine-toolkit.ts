/** Where things are on this machine, from the environment and the global options. */
import { homedir, userInfo } from "node:os";
import { join, resolve } from "node:path";

import { KitError } from "../core/errors.ts";
import type { Toolkit } from "./controller/toolkit.ts";

export interface MachineFlags {
  readonly stateDir?: string;
  readonly cacheDir?: string;
}

/** @param root folder of the package. */
export function findToolkit(env: NodeJS.ProcessEnv, root: string, flags: MachineFlags): Toolkit {
  const home = homedir();
  const state =
    flags.stateDir ?? join(env["XDG_STATE_HOME"] || join(home, ".local", "state"), "enclave-toolkit");
  const cache = flags.cacheDir ?? join(env["XDG_CACHE_HOME"] || join(home, ".cache"), "enclave-toolkit");
  const uid = process.getuid?.() ?? -1;
  return {
    stateDir: resolve(state),
    cacheDir: resolve(cache),
    architecture: findArchitecture(),
    caller: { uid, userName: userName(uid), searchPath: env["PATH"] ?? "" },
    node: process.execPath,
    nativeDir: join(root, "native", "build"),
    sourceDir: join(root, "native"),
    distDir: join(root, "dist"),
    proxies: proxiesOf(env),
  };
}

function userName(uid: number): string {
  try {
    return userInfo().username;
  } catch {
    return String(uid); // an id without an account
  }
}

/** What apt itself would read from the environment. */
function proxiesOf(env: NodeJS.ProcessEnv): Record<string, string> {
  const names = ["http_proxy", "https_proxy", "no_proxy"];
  return Object.fromEntries(names.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])));
}

function findArchitecture(): Toolkit["architecture"] {
  if (process.arch === "x64") return "amd64";
  if (process.arch === "arm64") return "arm64";
  throw new KitError("E_CONFIG_UNSUPPORTED", `enclaves run on x64 and arm64, not on ${process.arch}`);
}
