/** System users and groups that a maintainer script asks for: adduser, addgroup, useradd, groupadd, usermod, gpasswd. */
import { type CommandLine, parseCommandLine, type OptionTable } from "./command-line.ts";
import type { ScriptCommand, ScriptWord } from "./script-commands.ts";

export interface UserRequest {
  readonly kind: "user";
  readonly name: string;
  /** A name, a number as text, or undefined for a group of the user's own name. */
  readonly group: string | undefined;
  readonly uid: number | undefined;
  readonly home: string;
  readonly shell: string;
  readonly comment: string;
  /** The home directory is made, owned by the user, if nothing is there. */
  readonly createHome: boolean;
}

export type AccountRequest =
  | UserRequest
  | { readonly kind: "group"; readonly name: string; readonly gid: number | undefined }
  | { readonly kind: "member"; readonly user: string; readonly group: string };

export interface AccountReading {
  readonly requests: readonly AccountRequest[];
  /** Commands that make accounts and were not understood, as text. */
  readonly unknown: readonly string[];
}

export const NOLOGIN = "/usr/sbin/nologin";
export const NO_HOME = "/nonexistent";
const NAME = /^[a-z_][a-z0-9_.-]{0,31}$/i;

const ADDUSER: OptionTable = {
  values: [
    "--home",
    "--shell",
    "--ingroup",
    "--gid",
    "--uid",
    "--gecos",
    "--comment",
    "--firstuid",
    "--lastuid",
    "--conf",
  ],
  flags: [
    "--system",
    "--group",
    "--no-create-home",
    "--disabled-login",
    "--disabled-password",
    "--quiet",
    "--force-badname",
    "--allow-badname",
    "--allow-bad-names",
    "--allow-all-names",
    "--debug",
    "--verbose",
    "-q",
  ],
};
const USERADD: OptionTable = {
  values: [
    "-b",
    "-c",
    "-d",
    "-e",
    "-f",
    "-g",
    "-G",
    "-K",
    "-k",
    "-p",
    "-s",
    "-u",
    "-R",
    "-P",
    "--comment",
    "--home-dir",
    "--home",
    "--gid",
    "--groups",
    "--shell",
    "--uid",
    "--password",
    "--root",
    "--prefix",
  ],
  flags: [
    "-r",
    "-M",
    "-m",
    "-N",
    "-U",
    "-l",
    "-o",
    "-f",
    "-a",
    "--system",
    "--no-create-home",
    "--create-home",
    "--no-user-group",
    "--user-group",
    "--append",
    "--force",
    "--no-log-init",
  ],
};
const GROUPADD: OptionTable = {
  values: ["-g", "-K", "-R", "-P", "--gid", "--root", "--prefix"],
  flags: ["-r", "-f", "-o", "--system", "--force"],
};
const GPASSWD: OptionTable = { values: ["-a", "--add"], flags: [] };

type Reader = (line: CommandLine) => readonly AccountRequest[] | undefined;

const READERS: Readonly<Record<string, { readonly table: OptionTable; readonly read: Reader }>> = {
  adduser: { table: ADDUSER, read: readAdduser },
  addgroup: { table: ADDUSER, read: readAddgroup },
  useradd: { table: USERADD, read: readUseradd },
  groupadd: { table: GROUPADD, read: readGroupadd },
  usermod: { table: USERADD, read: readUsermod },
  gpasswd: { table: GPASSWD, read: readGpasswd },
  // Reads sysusers.d, which is read by us too.
  "systemd-sysusers": { table: { values: [], flags: [] }, read: () => [] },
};
/** They may have the name of one of the programs above as an argument without running it. */
const SPEAKING = new Set([
  "echo",
  "printf",
  "command",
  "which",
  "type",
  "test",
  "[",
  "case",
  "for",
  "hash",
  "db_input",
]);

/** Reads all commands of a script that make accounts, also behind a wrapper (`in_sysroot adduser ...`). */
export function readAccountCommands(commands: readonly ScriptCommand[]): AccountReading {
  const requests: AccountRequest[] = [];
  const unknown: string[] = [];
  for (const command of commands) {
    const call = accountCall(command);
    if (call === undefined) continue;
    const read = readCall(call);
    if (read === undefined) unknown.push(describe(call));
    else requests.push(...read);
  }
  return { requests, unknown };
}

function accountCall(command: ScriptCommand): ScriptCommand | undefined {
  if (Object.hasOwn(READERS, command.program)) return command;
  if (SPEAKING.has(command.program)) return undefined;
  const index = command.args.findIndex((word) => word !== undefined && Object.hasOwn(READERS, word));
  const program = command.args[index];
  return program === undefined ? undefined : { program, args: command.args.slice(index + 1) };
}

function readCall(call: ScriptCommand): readonly AccountRequest[] | undefined {
  const reader = READERS[call.program];
  if (reader === undefined) return undefined;
  if (call.program === "systemd-sysusers") return [];
  const line = parseCommandLine(call.args, reader.table);
  const requests = line === undefined ? undefined : reader.read(line);
  return requests?.every(hasValidNames) === true ? requests : undefined;
}

function hasValidNames(request: AccountRequest): boolean {
  if (request.kind === "member") return NAME.test(request.user) && NAME.test(request.group);
  const isPlain = request.kind === "group" || !/[:\n]/.test(request.home + request.shell + request.comment);
  return isPlain && NAME.test(request.name);
}

function readAdduser(line: CommandLine): readonly AccountRequest[] | undefined {
  const [name, group, ...more] = line.positional;
  if (name === undefined || more.length > 0) return undefined;
  if (group !== undefined) return [{ kind: "member", user: name, group }];
  // Without --system it makes a person, which no package does.
  if (!line.has("--system")) return undefined;
  const ownGroup = line.has("--group");
  const home = line.value("--home") ?? NO_HOME;
  return [
    {
      kind: "user",
      name,
      group: line.value("--ingroup", "--gid") ?? (ownGroup ? undefined : "nogroup"),
      uid: line.number("--uid"),
      home: withoutTrailingSlash(home),
      shell: line.value("--shell") ?? NOLOGIN,
      comment: line.value("--gecos", "--comment") ?? "",
      createHome: !line.has("--no-create-home"),
    },
  ];
}

function readAddgroup(line: CommandLine): readonly AccountRequest[] | undefined {
  const [name, group, ...more] = line.positional;
  if (name === undefined || more.length > 0) return undefined;
  if (group !== undefined) return [{ kind: "member", user: name, group }];
  return [{ kind: "group", name, gid: line.number("--gid") }];
}

function readUseradd(line: CommandLine): readonly AccountRequest[] | undefined {
  const [name, ...more] = line.positional;
  if (name === undefined || more.length > 0 || !line.has("-r", "--system")) return undefined;
  const user: UserRequest = {
    kind: "user",
    name,
    group: line.value("-g", "--gid") ?? (line.has("-N", "--no-user-group") ? "nogroup" : undefined),
    uid: line.number("-u", "--uid"),
    home: withoutTrailingSlash(line.value("-d", "--home-dir", "--home") ?? NO_HOME),
    shell: line.value("-s", "--shell") ?? NOLOGIN,
    comment: line.value("-c", "--comment") ?? "",
    createHome: line.has("-m", "--create-home"),
  };
  return [user, ...members(name, line)];
}

function readGroupadd(line: CommandLine): readonly AccountRequest[] | undefined {
  const [name, ...more] = line.positional;
  if (name === undefined || more.length > 0) return undefined;
  return [{ kind: "group", name, gid: line.number("-g", "--gid") }];
}

/** Memberships are kept. Other changes (comment, shell of an older release) matter to upgrades only. */
function readUsermod(line: CommandLine): readonly AccountRequest[] | undefined {
  const [name, ...more] = line.positional;
  return name === undefined || more.length > 0 ? undefined : members(name, line);
}

function readGpasswd(line: CommandLine): readonly AccountRequest[] | undefined {
  const user = line.value("-a", "--add");
  const [group] = line.positional;
  return user === undefined || group === undefined ? undefined : [{ kind: "member", user, group }];
}

function members(user: string, line: CommandLine): readonly AccountRequest[] {
  const groups = (line.value("-G", "--groups") ?? "").split(",").filter((group) => group !== "");
  return groups.map((group) => ({ kind: "member", user, group }));
}

function withoutTrailingSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, "") : path;
}

function describe(call: ScriptCommand): string {
  const show = (word: ScriptWord): string => word ?? "?";
  return [call.program, ...call.args.map(show)].join(" ").slice(0, 200);
}
