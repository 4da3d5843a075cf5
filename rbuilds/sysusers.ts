/**
 * sysusers.d(5): one account a line, `type name id "comment" home shell`. Only what makes accounts: u, g, m. Ids are
 * ours to give (rbuilds/finishers/accounts.ts); a number in the file is kept where it is free.
 */
import { type AccountRequest, NO_HOME, NOLOGIN } from "./maintainer-script/account-commands.ts";

const MAX_LINES = 2000;
const NAME = /^[a-z_][a-z0-9_.-]{0,31}$/i;

export interface SysusersReading {
  readonly requests: readonly AccountRequest[];
  /** Lines that were not understood. */
  readonly unknown: readonly string[];
}

export function readSysusers(text: string): SysusersReading {
  const requests: AccountRequest[] = [];
  const unknown: string[] = [];
  for (const line of text.split("\n", MAX_LINES)) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const read = readLine(trimmed);
    if (read === undefined) unknown.push(trimmed.slice(0, 200));
    else requests.push(...read);
  }
  return { requests, unknown };
}

function readLine(line: string): readonly AccountRequest[] | undefined {
  const [type = "", name = "", id = "-", ...rest] = splitFields(line);
  if (type === "r") return [];
  if (!NAME.test(name)) return undefined;
  if (type === "m") return NAME.test(id) ? [{ kind: "member", user: name, group: id }] : undefined;
  if (type === "g") return [{ kind: "group", name, gid: numeric(id) }];
  return type === "u" || type === "u!" ? readUser(name, id, rest) : undefined;
}

function readUser(name: string, id: string, rest: readonly string[]): readonly AccountRequest[] | undefined {
  const [comment = "", home = NO_HOME, shell = NOLOGIN] = rest.map((field) =>
    field === "-" ? undefined : field,
  );
  const [uid = "", group] = id.split(":");
  if (/[:\n]/.test(comment + home + shell)) return undefined;
  return [{ kind: "user", name, group, uid: numeric(uid), home, shell, comment, createHome: false }];
}

function splitFields(line: string): string[] {
  const fields = line.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+)/g);
  return Array.from(fields, ([, double, single, plain]) => double ?? single ?? plain ?? "");
}

function numeric(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}
