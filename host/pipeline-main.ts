/** `pipeline`: reads environment and arguments, makes the context, runs one command, turns its refusal into an exit status. */
import { homedir, userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { CommanderError } from "commander";

import { KitError, toKitError } from "../core/errors.ts";
import type { CommandContext } from "./cli/command-context.ts";
import { createProgram, type GlobalFlags, toUsageError } from "./cli/program.ts";
import { Terminal } from "./cli/terminal.ts";
import type { Toolkit } from "./controller/toolkit.ts";

const VERSION = "0.1.0";
const FORCED_STATUS = 130;

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const interrupted = new AbortController();
const program = createProgram({ version: VERSION, getContext });

function getContext(): CommandContext {
  const flags = program.opts<GlobalFlags>();
  return { toolkit: findToolkit(flags), terminal: openTerminal(flags), interrupted: interrupted.signal };
}

function findToolkit(flags: GlobalFlags): Toolkit {
  const { env } = process;
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

function openTerminal(flags: GlobalFlags): Terminal {
  const colours = flags.color && !process.env["NO_COLOR"];
  return new Terminal({
    stdout: process.stdout,
    stderr: process.stderr,
    colours,
    verbose: flags.verbose === true,
  });
}

/** The first Ctrl-C asks, the second does not wait any longer. */
function onSignal(): void {
  if (interrupted.signal.aborted) process.exit(FORCED_STATUS);
  interrupted.abort();
}

async function main(): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0); // the reader of a pipe has seen enough
  });
  try {
    await program.parseAsync();
  } catch (error) {
    const refusal = error instanceof CommanderError ? toUsageError(error) : toKitError(error);
    if (refusal === undefined) return;
    openTerminal(program.opts<GlobalFlags>()).fail(refusal, process.argv.includes("--json"));
    process.exitCode = refusal.exitStatus;
  }
}

await main();
process.exit();
