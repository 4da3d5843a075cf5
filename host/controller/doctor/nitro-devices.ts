import type { Stats } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";

import { fail, type Finding, ok } from "./finding.ts";

export interface DeviceUser {
  readonly name: string;
  readonly uid: number;
  /** Group ids that this process has. */
  readonly groups: readonly number[];
}

interface Place {
  readonly root: string;
  readonly user: DeviceUser;
}

const GROUP = "ne";
const DEVICES = [
  { check: "nitro device", path: "dev/nitro_enclaves", load: "sudo modprobe nitro_enclaves" },
  { check: "vsock device", path: "dev/vsock", load: "sudo modprobe vhost_vsock" },
] as const;

/** The device nodes, and whether this user may open them. */
export async function checkDevices(place: Place): Promise<Finding[]> {
  return await Promise.all(
    DEVICES.map(async ({ check, path, load }) => {
      const stats = await stat(join(place.root, path)).catch(() => undefined);
      if (stats === undefined) return fail(check, { detail: `/${path} is not there`, fix: load });
      if (mayUse(stats, place.user)) return ok(check, `/${path} can be opened`);
      return await describeRefusal(check, path, place);
    }),
  );
}

/** To read and write, as the kernel decides. */
function mayUse({ mode, uid, gid }: Stats, user: DeviceUser): boolean {
  if (user.uid === 0) return true;
  if (uid === user.uid) return (mode & 0o600) === 0o600;
  if (user.groups.includes(gid)) return (mode & 0o060) === 0o060;
  return (mode & 0o006) === 0o006;
}

async function describeRefusal(check: string, path: string, { root, user }: Place): Promise<Finding> {
  const detail = `${user.name} may not open /${path}`;
  const group = await readGroup(join(root, "etc/group"));
  if (group === undefined)
    return fail(check, {
      detail: `${detail}, and there is no group ${GROUP}`,
      fix: "sudo dnf reinstall aws-nitro-enclaves-cli",
    });
  if (user.groups.includes(group.gid))
    return fail(check, {
      detail: `${detail}, though in group ${GROUP}`,
      fix: `sudo chgrp ${GROUP} /${path} && sudo chmod 660 /${path}`,
    });
  if (group.members.includes(user.name))
    return fail(check, {
      detail: `${detail}: this session began before ${user.name} joined group ${GROUP}`,
      fix: `newgrp ${GROUP}, or log in again`,
    });
  return fail(check, {
    detail: `${detail}: not in group ${GROUP}`,
    fix: `sudo usermod -aG ${GROUP} ${user.name}, and log in again`,
  });
}

async function readGroup(
  path: string,
): Promise<{ readonly gid: number; readonly members: readonly string[] } | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  const line = text.split("\n").find((one) => one.startsWith(`${GROUP}:`));
  const [, , gid, members = ""] = line?.split(":") ?? [];
  return gid === undefined ? undefined : { gid: Number(gid), members: members.split(",") };
}
