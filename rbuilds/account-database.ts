/**
 * /etc/passwd and /etc/group as data.
 *
 *   passwd  name:password:uid:gid:comment:home:shell
 *   group   name:password:gid:member,member
 */
import { KitError } from "../core/errors.ts";

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly comment: string;
  readonly home: string;
  readonly shell: string;
}

export interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

const MAX_ID = 0xff_ff_ff_fe;

/** @throws E_IMAGE_PACKAGE_CONTENT naming the line. */
export function parsePasswd(text: string): readonly User[] {
  return lines(text).map((line) => {
    const [name = "", , uid, gid, comment = "", home = "", shell, ...more] = line.split(":");
    if (name === "" || shell === undefined || more.length > 0) throw malformed("passwd", line);
    return { name, uid: parseId(uid, line), gid: parseId(gid, line), comment, home, shell };
  });
}

/** @throws E_IMAGE_PACKAGE_CONTENT naming the line. */
export function parseGroup(text: string): readonly Group[] {
  return lines(text).map((line) => {
    const [name = "", , gid, members, ...more] = line.split(":");
    if (name === "" || members === undefined || more.length > 0) throw malformed("group", line);
    return { name, gid: parseId(gid, line), members: members.split(",").filter((member) => member !== "") };
  });
}

export function formatPasswd(users: readonly User[]): string {
  const line = (user: User): string =>
    [user.name, "x", user.uid, user.gid, user.comment, user.home, user.shell].join(":");
  return users.map((user) => `${line(user)}\n`).join("");
}

export function formatGroup(groups: readonly Group[]): string {
  return groups.map((group) => `${group.name}:x:${group.gid}:${group.members.join(",")}\n`).join("");
}

/** No password opens any account. The day of the last change is left empty, so that builds are equal. */
export function formatShadow(users: readonly User[]): string {
  return users.map((user) => `${user.name}:*::0:99999:7:::\n`).join("");
}

export function formatGshadow(groups: readonly Group[]): string {
  return groups.map((group) => `${group.name}:*::${group.members.join(",")}\n`).join("");
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

function parseId(text: string | undefined, line: string): number {
  const id = /^\d{1,10}$/.test(text ?? "") ? Number(text) : MAX_ID + 1;
  if (id > MAX_ID) throw malformed("account", line);
  return id;
}

function malformed(file: string, line: string): KitError {
  return new KitError(
    "E_IMAGE_PACKAGE_CONTENT",
    `malformed ${file} line: ${JSON.stringify(line.slice(0, 120))}`,
  );
}
