import { chmod, chown, cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { fetchText, openTestbed, ROOT, StatusJson, Testbed } from "./testbed.ts";

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

/**
 * As an ordinary user with one uid. Run by root this drops to uid 65534 with an installation that this user can read;
 * run by an ordinary user every other end-to-end test is this test already.
 */
describe.skipIf(!isRoot)("an ordinary user without a range of ids (needs root to become one)", () => {
  let home: string;
  let bed: Testbed;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "ou-"));
    await chmod(home, 0o755);
    for (const part of ["bin", "dist", "examples", "native/build", "package.json"]) {
      await cp(join(ROOT, part), join(home, "install", part), { recursive: true });
    }
    await cp(process.execPath, join(home, "node"));
    await mkdir(join(home, "user"));
    await chown(join(home, "user"), NOBODY, NOBODY);
    const prefix = ["setpriv", "--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups"];
    const environment = { HOME: join(home, "user"), XDG_CACHE_HOME: "", XDG_STATE_HOME: "" };
    bed = new Testbed(join(home, "user", "s"), {
      prefix,
      install: join(home, "install"),
      node: join(home, "node"),
      environment,
    });
  });
  afterAll(async () => {
    await bed[Symbol.asyncDispose]();
    await rm(home, { recursive: true, force: true });
  });

  test.each(["hello", "counter"])(
    "brings %s up, and status says that services are not kept apart",
    async (name) => {
      const file = join(home, "install", "examples", name, "enclave.yaml");
      const up = await bed.succeed("up", file, "-d", "--json", "-p", "127.0.0.1:0:8080");
      const status = StatusJson.parse(JSON.parse(up));
      expect(status).toMatchObject({ name, state: "running", isolated: false });
      expect(await fetchText(status.ports[0]?.hostPort ?? 0)).not.toBe("");
      await bed.succeed("down", name);
    },
  );

  test("doctor says what is missing for a range of ids", async () => {
    const doctor = await bed.run("doctor");
    expect(doctor.stdout).toMatch(/uidmap|subuid/);
  });
});

test("where user namespaces are forbidden up names the setting, and leaves nothing", async () => {
  // Inside a user namespace of our own the limit can be set without touching the machine's.
  const forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
  await using bed = await openTestbed({ prefix: ["unshare", "-U", "-r", "sh", "-c", forbid, "sh"] });
  const up = await bed.run(
    "up",
    join(ROOT, "examples", "hello", "enclave.yaml"),
    "-d",
    "-p",
    "127.0.0.1:0:8080",
  );
  expect(up.stderr).toContain("E_HOST_USER_NAMESPACES");
  expect(up.stderr).toMatch(
    /hint: user\.max_user_namespaces is 0; as root: sysctl -w user\.max_user_namespaces=/,
  );
  expect(up.status).toBe(7);
  expect((await bed.ps()).filter((record) => record.runner.pid !== null)).toEqual([]);
  expect((await bed.run("doctor")).status).toBe(7);
});
