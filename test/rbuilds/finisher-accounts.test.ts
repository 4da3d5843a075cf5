import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { allocateAccounts } from "../../rbuilds/account-allocation.ts";
import { finishAccounts } from "../../rbuilds/finishers/accounts.ts";
import { finishMaintainerPaths } from "../../rbuilds/finishers/maintainer-paths.ts";
import type { UnpackedPackage } from "../../rbuilds/unpacked-package.ts";
import { type FinishBed, openFinishBed, scriptedPackage } from "../fixtures/rbuilds/debian-testbed.ts";

const PASSWD =
  "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP = "root:*:0:\nadm:*:4:\nshadow:*:42:\nusers:*:100:\nnogroup:*:65534:\n";
const SYSTEM = "adduser --system --group --home /var/lib/NAME NAME\n";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "finisher-accounts-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function open(...packages: readonly UnpackedPackage[]): Promise<FinishBed> {
  const bed = await openFinishBed(directory, packages);
  await bed.add("/usr/share/base-passwd/passwd.master", PASSWD);
  await bed.add("/usr/share/base-passwd/group.master", GROUP);
  return bed;
}

function making(name: string): UnpackedPackage {
  return scriptedPackage(name, `#!/bin/sh\n${SYSTEM.replaceAll("NAME", name)}`);
}

describe("passwd and group", () => {
  test("hold the masters and the packages' users, numbered from 100 in name order", async () => {
    const bed = await open(making("zulu"), making("alpha"));
    await finishAccounts(bed);
    expect(await bed.text("/etc/passwd")).toBe(
      "root:x:0:0:root:/root:/bin/sh\n" +
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
        // 100 is the group `users`.
        "alpha:x:101:101::/var/lib/alpha:/usr/sbin/nologin\n" +
        "zulu:x:102:102::/var/lib/zulu:/usr/sbin/nologin\n",
    );
    expect(await bed.text("/etc/group")).toMatch(
      /^users:x:100:\nnogroup:x:65534:\nalpha:x:101:\nzulu:x:102:\n$/m,
    );
  });

  test("do not depend on the order of the packages", async () => {
    const one = await open(making("zulu"), making("alpha"));
    await finishAccounts(one);
    const other = await open(making("alpha"), making("zulu"));
    await finishAccounts(other);
    expect(await other.text("/etc/passwd")).toBe(await one.text("/etc/passwd"));
  });

  test("come with shadow files that no password opens and that only root and shadow read", async () => {
    const bed = await open(making("alpha"));
    await finishAccounts(bed);
    expect(await bed.text("/etc/shadow")).toBe(
      "root:*::0:99999:7:::\nnobody:*::0:99999:7:::\nalpha:*::0:99999:7:::\n",
    );
    expect(bed.tree.get("/etc/shadow")).toMatchObject({ mode: 0o640, uid: 0, gid: 42 });
    expect(bed.tree.get("/etc/gshadow")).toMatchObject({ mode: 0o640, uid: 0, gid: 42 });
    expect(bed.tree.get("/etc/passwd")).toMatchObject({ mode: 0o644, uid: 0, gid: 0 });
  });

  test("give root the shell of the masters where the image has it", async () => {
    const bed = await open();
    await bed.add("/bin/bash", "");
    await finishAccounts(bed);
    expect(await bed.text("/etc/passwd")).toMatch(/^root:x:0:0:root:\/root:\/bin\/bash$/m);
  });

  test("hold what sysusers.d files declare", async () => {
    const bed = await open({
      ...scriptedPackage("alpha"),
      entries: [
        {
          type: "file",
          path: "/usr/lib/sysusers.d/alpha.conf",
          mode: 0o644,
          uid: 0,
          gid: 0,
          digest: "",
          size: 1,
        },
      ],
    });
    await bed.add("/usr/lib/sysusers.d/alpha.conf", 'u alpha 777 "A service" /var/lib/alpha\nm alpha adm\n');
    await finishAccounts(bed);
    expect(await bed.text("/etc/passwd")).toMatch(/^alpha:x:777:101:A service:\/var\/lib\/alpha:/m);
    expect(await bed.text("/etc/group")).toMatch(/^adm:x:4:alpha$/m);
  });
});

describe("home directories", () => {
  test("are made where adduser would make them, owned by the user", async () => {
    const bed = await open(making("alpha"));
    await finishAccounts(bed);
    expect(bed.tree.get("/var/lib/alpha")).toMatchObject({
      type: "directory",
      mode: 0o755,
      uid: 101,
      gid: 101,
    });
  });

  test("keep their owner where a package brought them", async () => {
    const bed = await open(making("alpha"));
    bed.tree.set({ type: "directory", path: "/var/lib/alpha", mode: 0o700, uid: 0, gid: 0 });
    await finishAccounts(bed);
    expect(bed.tree.get("/var/lib/alpha")).toMatchObject({ mode: 0o700, uid: 0 });
  });

  test("are not made below /run, which is empty at every start", async () => {
    const script = "#!/bin/sh\nadduser --system --home /run/alpha alpha";
    const bed = await open(scriptedPackage("alpha", script));
    await finishAccounts(bed);
    expect(bed.tree.get("/run/alpha")).toBeUndefined();
  });
});

describe("scripts that are not understood", () => {
  test("lead to a warning that names the package and the command", async () => {
    const bed = await open(
      scriptedPackage("alpha", '#!/bin/sh\nfor u in a b; do adduser --system "$u"; done'),
    );
    await finishAccounts(bed);
    expect(bed.warnings).toEqual([
      expect.stringMatching(/^alpha makes system accounts .*adduser --system \?/),
    ]);
  });

  test("in another language lead to a warning", async () => {
    const alpha = scriptedPackage("alpha");
    const control = { ...alpha.control, foreignScripts: ["#!/usr/bin/perl\nsystem('adduser', 'x')"] };
    const bed = await open({ ...alpha, control });
    await finishAccounts(bed);
    expect(bed.warnings).toEqual([expect.stringMatching(/^alpha makes system accounts/)]);
  });

  test("lead to none where the table knows the package", async () => {
    const script =
      '#!/bin/sh\nadduser --system --group varnish\nfor u in $A $B; do adduser --system "$u"; done';
    const bed = await open(scriptedPackage("varnish", script));
    await finishAccounts(bed);
    expect(bed.warnings).toEqual([]);
    expect(await bed.text("/etc/passwd")).toMatch(/^vcache:x:\d+:101:/m);
  });
});

describe("numbers", () => {
  const base = { users: [], groups: [] };

  test("that a package asks for are kept where they are free", () => {
    const user = (name: string) =>
      ({
        kind: "user",
        name,
        group: undefined,
        uid: 150,
        home: "/",
        shell: "/",
        comment: "",
        createHome: false,
      }) as const;
    const { users } = allocateAccounts(base, [user("b"), user("a")]);
    expect(users.map(({ name, uid }) => [name, uid])).toEqual([
      ["a", 150],
      ["b", 101],
    ]);
  });

  test("end at 999", () => {
    const requests = Array.from(
      { length: 901 },
      (_, n) => ({ kind: "group", name: `g${n}`, gid: undefined }) as const,
    );
    expect(() => allocateAccounts(base, requests)).toThrow(
      expect.objectContaining({ code: "E_IMAGE_PACKAGE_CONTENT" }),
    );
    expect(allocateAccounts(base, requests.slice(1)).groups).toHaveLength(900);
  });
});

describe("owners and modes from scripts", () => {
  async function finish(bed: FinishBed): Promise<FinishBed> {
    await finishAccounts(bed);
    await finishMaintainerPaths(bed);
    return bed;
  }
  const withUser = (script: string): UnpackedPackage =>
    scriptedPackage("alpha", `#!/bin/sh\nadduser --system --group --no-create-home alpha\n${script}`);

  test("are set on what the image has", async () => {
    const bed = await open(withUser("chown alpha:adm /etc/a.conf\nchmod 0640 /etc/a.conf"));
    await bed.add("/etc/a.conf", "");
    await finish(bed);
    expect(bed.tree.get("/etc/a.conf")).toMatchObject({ uid: 101, gid: 4, mode: 0o640 });
  });

  test("make directories below /var, /etc and /srv, and nowhere else", async () => {
    const bed = await open(
      withUser("install -d -o alpha -g alpha -m 2750 /var/log/alpha /run/alpha /var/run/x /opt/x"),
    );
    await finish(bed);
    expect(bed.tree.get("/var/log/alpha")).toMatchObject({
      type: "directory",
      uid: 101,
      gid: 101,
      mode: 0o2750,
    });
    for (const path of ["/run/alpha", "/var/run/x", "/opt/x"]) expect(bed.tree.get(path)).toBeUndefined();
  });

  test("do nothing for a user that the image does not have", async () => {
    const bed = await open(withUser("chown stranger /etc/a.conf"));
    await bed.add("/etc/a.conf", "");
    await finish(bed);
    expect(bed.tree.get("/etc/a.conf")).toMatchObject({ uid: 0, gid: 0 });
  });

  test("follow links to the file, as chown does", async () => {
    const bed = await open(withUser("chown alpha /etc/link"));
    await bed.add("/etc/a.conf", "");
    bed.tree.set({ type: "symlink", path: "/etc/link", mode: 0o777, uid: 0, gid: 0, target: "a.conf" });
    await finish(bed);
    expect(bed.tree.get("/etc/a.conf")).toMatchObject({ uid: 101 });
    expect(bed.tree.get("/etc/link")).toMatchObject({ type: "symlink", uid: 0 });
  });

  test("reach everything below with -R but no link's target", async () => {
    const bed = await open(withUser("chown -R alpha: /var/lib/a"));
    await bed.add("/var/lib/a/b/c", "");
    await bed.add("/etc/outside", "");
    bed.tree.set({
      type: "symlink",
      path: "/var/lib/a/link",
      mode: 0o777,
      uid: 0,
      gid: 0,
      target: "/etc/outside",
    });
    await finish(bed);
    expect(bed.tree.get("/var/lib/a/b/c")).toMatchObject({ uid: 101 });
    expect(bed.tree.get("/etc/outside")).toMatchObject({ uid: 0 });
  });

  test("are the same for all names of a file", async () => {
    const bed = await open(withUser("chown alpha /etc/a.conf"));
    await bed.add("/etc/a.conf", "");
    bed.tree.set({
      type: "hardlink",
      path: "/etc/b.conf",
      mode: 0o644,
      uid: 0,
      gid: 0,
      target: "/etc/a.conf",
    });
    await finish(bed);
    expect(bed.tree.get("/etc/b.conf")).toMatchObject({ type: "hardlink", uid: 101 });
  });

  test("come from the table for redis-tools", async () => {
    const script =
      '#!/bin/sh\nUSER="redis"\nadduser --system --home /var/lib/redis --group ${USER}\nSetup_dir /var/log/redis 2750 adm';
    const bed = await open(scriptedPackage("redis-tools", script));
    await finish(bed);
    expect(bed.tree.get("/var/lib/redis")).toMatchObject({ uid: 101, gid: 101, mode: 0o750 });
    expect(bed.tree.get("/var/log/redis")).toMatchObject({ uid: 101, gid: 4, mode: 0o2750 });
  });
});
