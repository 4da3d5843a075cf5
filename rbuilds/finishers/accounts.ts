/**
 * passwd, group, shadow and gshadow: base-passwd's masters, then each package's system users from its sysusers.d files
 * and from the commands in its scripts, or from the table where its scripts decide at run time.
 */
import {
  formatGroup,
  formatGshadow,
  formatPasswd,
  formatShadow,
  parseGroup,
  parsePasswd,
} from "../account-database.ts";
import { type Accounts, allocateAccounts } from "../account-allocation.ts";
import { type AccountRequest, readAccountCommands } from "../maintainer-script/account-commands.ts";
import { PACKAGE_TABLE } from "../maintainer-script/package-table.ts";
import { readScriptCommands } from "../maintainer-script/script-commands.ts";
import { readSysusers } from "../sysusers.ts";
import type { UnpackedPackage } from "../unpacked-package.ts";
import { ensureDirectory, entryAt, type FinishContext, readText, writeText } from "./finish-context.ts";

const PASSWD_MASTER = "/usr/share/base-passwd/passwd.master";
const GROUP_MASTER = "/usr/share/base-passwd/group.master";
const SYSUSERS = /^\/usr\/lib\/sysusers\.d\/[^/]+\.conf$/;
const ACCOUNT_WORDS = /\b(?:adduser|useradd|addgroup|groupadd)\b/;

/** Writes the four files and makes the home directories that adduser would. Warns of scripts it cannot read. */
export async function finishAccounts(context: FinishContext): Promise<void> {
  const requests = (await Promise.all(context.packages.map((each) => packageRequests(context, each)))).flat();
  const accounts = withPresentShells(context, allocateAccounts(await readMasters(context), requests));
  await writeAccounts(context, accounts);
  for (const request of requests) makeHome(context, accounts, request);
}

async function readMasters(context: FinishContext): Promise<Accounts> {
  const [passwd = "", group = ""] = await Promise.all([
    readText(context, PASSWD_MASTER),
    readText(context, GROUP_MASTER),
  ]);
  return { users: parsePasswd(passwd), groups: parseGroup(group) };
}

async function packageRequests(
  context: FinishContext,
  each: UnpackedPackage,
): Promise<readonly AccountRequest[]> {
  const files = each.entries.filter((entry) => entry.type === "file" && SYSUSERS.test(entry.path));
  const declared = (await Promise.all(files.map((file) => readText(context, file.path)))).map((text) =>
    readSysusers(text ?? ""),
  );
  const commands = each.control.scripts.map((script) => readAccountCommands(readScriptCommands(script)));
  const readings = [...declared, ...commands];
  const table = PACKAGE_TABLE.get(each.name);
  if (table === undefined)
    warnOfUnknown(
      context,
      each,
      readings.flatMap((reading) => reading.unknown),
    );
  return [...(table?.accounts ?? []), ...readings.flatMap((reading) => reading.requests)];
}

function warnOfUnknown(context: FinishContext, each: UnpackedPackage, unknown: readonly string[]): void {
  const foreign = each.control.foreignScripts.filter((script) => ACCOUNT_WORDS.test(script));
  const [first] = [...unknown, ...foreign.map(() => "a script that is not for sh")];
  if (first === undefined) return;
  context.warn(
    `${each.name} makes system accounts in a way that is not understood (${first}); add the users it needs by a file under copy:`,
  );
}

/** root's shell is bash in the masters, which an image need not have. */
function withPresentShells(context: FinishContext, accounts: Accounts): Accounts {
  const hasBash = entryAt(context.tree, "/bin/bash") !== undefined;
  const users = accounts.users.map((user) =>
    user.shell === "/bin/bash" && !hasBash ? { ...user, shell: "/bin/sh" } : user,
  );
  return { ...accounts, users };
}

async function writeAccounts(context: FinishContext, accounts: Accounts): Promise<void> {
  const gid = accounts.groups.find((group) => group.name === "shadow")?.gid ?? 0;
  await writeText(context, "/etc/passwd", formatPasswd(accounts.users));
  await writeText(context, "/etc/group", formatGroup(accounts.groups));
  await writeText(context, "/etc/shadow", formatShadow(accounts.users), { mode: 0o640, gid });
  await writeText(context, "/etc/gshadow", formatGshadow(accounts.groups), { mode: 0o640, gid });
}

/** /run and /home of a running enclave are not ours to fill: the first is empty at every start. */
function makeHome(context: FinishContext, accounts: Accounts, request: AccountRequest): void {
  if (request.kind !== "user" || !request.createHome || !/^\/(?:var|srv|opt)\//.test(request.home)) return;
  const user = accounts.users.find((each) => each.name === request.name);
  if (user === undefined || user.home !== request.home) return;
  ensureDirectory(context.tree, request.home, { mode: 0o755, uid: user.uid, gid: user.gid });
}
