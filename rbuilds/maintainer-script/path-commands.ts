/** Owners, modes and directories that a maintainer script sets: chown, chgrp, chmod, mkdir, install -d, dpkg-statoverride. */
import { normalize } from "node:path/posix";
import { isModeChange } from "../mode-change.ts";
import { type CommandLine, type OptionTable, parseCommandLine } from "./command-line.ts";
import type { ScriptCommand } from "./script-commands.ts";

/** Users and groups are names or decimal numbers; undefined leaves what is there. */
export interface PathAction {
  /** Absolute, normalised. */
  readonly path: string;
  /** Made with its parents (0755, root) if nothing is there; other actions concern only what exists. */
  readonly create: boolean;
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  /** Octal or symbolic, as chmod takes it. */
  readonly mode?: string | undefined;
  readonly recursive: boolean;
}

const CHANGE: OptionTable = {
  values: [],
  flags: [
    "-R",
    "-h",
    "-f",
    "-v",
    "-c",
    "--recursive",
    "--no-dereference",
    "--quiet",
    "--silent",
    "--verbose",
    "--changes",
  ],
};
const MKDIR: OptionTable = { values: ["-m", "--mode"], flags: ["-p", "-Z", "-v", "--parents", "--verbose"] };
const INSTALL: OptionTable = {
  values: ["-m", "-o", "-g", "--mode", "--owner", "--group"],
  flags: ["-d", "-D", "-p", "-v", "-Z", "--directory", "--verbose"],
};
const OVERRIDE: OptionTable = {
  values: [],
  flags: ["--update", "--add", "--force", "--force-all", "--quiet"],
};

type Reader = (line: CommandLine) => readonly Omit<PathAction, "recursive">[];

const READERS: Readonly<Record<string, { readonly table: OptionTable; readonly read: Reader }>> = {
  chown: { table: CHANGE, read: readChown },
  chgrp: { table: CHANGE, read: readChgrp },
  chmod: { table: CHANGE, read: readChmod },
  mkdir: { table: MKDIR, read: readMkdir },
  install: { table: INSTALL, read: readInstall },
  "dpkg-statoverride": { table: OVERRIDE, read: readOverride },
};

/** What the script does to paths that are literal; the rest is left out. */
export function readPathCommands(commands: readonly ScriptCommand[]): readonly PathAction[] {
  return commands.flatMap((command) => {
    const reader = Object.hasOwn(READERS, command.program) ? READERS[command.program] : undefined;
    if (reader === undefined) return [];
    const line = parseCommandLine(command.args, reader.table);
    const actions = line === undefined ? [] : reader.read(line);
    const recursive = line?.has("-R", "--recursive") === true;
    return actions
      .filter((action) => action.path.startsWith("/"))
      .map((action) => ({ ...action, path: withoutTrailingSlash(normalize(action.path)), recursive }));
  });
}

function readChown(line: CommandLine): ReturnType<Reader> {
  const [owner = "", ...paths] = line.positional;
  const match = /^([A-Za-z0-9_-]*)(?:[:.]([A-Za-z0-9_-]*))?$/.exec(owner);
  if (match === null) return [];
  const [, user = "", group = ""] = match;
  return paths.map((path) => ({ path, create: false, user: user || undefined, group: group || undefined }));
}

function readChgrp(line: CommandLine): ReturnType<Reader> {
  const [group, ...paths] = line.positional;
  return paths.map((path) => ({ path, create: false, group }));
}

function readChmod(line: CommandLine): ReturnType<Reader> {
  const [mode = "", ...paths] = line.positional;
  return isModeChange(mode) ? paths.map((path) => ({ path, create: false, mode })) : [];
}

function readMkdir(line: CommandLine): ReturnType<Reader> {
  const mode = line.value("-m", "--mode");
  if (mode !== undefined && !isModeChange(mode)) return [];
  return line.positional.map((path) => ({ path, create: true, mode }));
}

function readInstall(line: CommandLine): ReturnType<Reader> {
  if (!line.has("-d", "--directory")) return [];
  const mode = line.value("-m", "--mode") ?? "0755";
  if (!isModeChange(mode)) return [];
  const owner = { user: line.value("-o", "--owner"), group: line.value("-g", "--group") };
  return line.positional.map((path) => ({ path, create: true, mode, ...owner }));
}

function readOverride(line: CommandLine): ReturnType<Reader> {
  const [user, group, mode = "", path = "", ...more] = line.positional;
  if (!line.has("--add") || more.length > 0 || !isModeChange(mode)) return [];
  return [{ path, create: false, user, group, mode }];
}

function withoutTrailingSlash(path: string): string {
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}
