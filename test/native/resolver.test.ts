import { chmod, chown, mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { isRoot, openSandbox, openWorkshop, type SandboxOptions, type Workshop } from "./sandbox.ts";

const TEXT = "nameserver 198.18.0.2\noptions ndots:1 timeout:2 attempts:2\n";
const PATH = "/etc/resolv.conf";

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
});
afterAll(() => workshop[Symbol.asyncDispose]());

/** A folder outside of the enclave with a resolv.conf. */
async function makeHostFolder(name: string): Promise<string> {
  const folder = join(workshop.directory, name);
  await mkdir(folder);
  await chmod(folder, 0o755);
  await writeFile(join(folder, "resolv.conf"), "the host's own");
  return folder;
}

describe.each(isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const))(
  "in the sandbox that %s makes, the resolver is the enclave's own",
  (as) => {
    const open = (options: Partial<SandboxOptions> = {}) => openSandbox({ workshop, as, ...options });

    test("where the image names none, and even where it has no /etc", async () => {
      await using sandbox = await open();
      const agent = await sandbox.nextAgent();
      expect(await agent.ask(`read ${PATH}`)).toBe(TEXT);
      expect(await agent.ask(`stat ${PATH}`)).toMatch(/^100644 0 0 /);
      expect(await readdir(sandbox.tree)).not.toContain("etc");
      expect(sandbox.stderr).not.toContain("resolv.conf");
    });

    test("where the image names another, whose file stays as it is", async () => {
      await using sandbox = await open({ files: { "etc/resolv.conf": "nameserver 192.0.2.1\n" } });
      const agent = await sandbox.nextAgent();
      expect(await agent.ask(`read ${PATH}`)).toBe(TEXT);
      expect(await readFile(join(sandbox.tree, "etc/resolv.conf"), "utf8")).toBe("nameserver 192.0.2.1\n");
    });

    test.each(["motd", "/etc/motd", "../run/systemd/resolve/stub-resolv.conf", "/proc/self/fd/3/escaped"])(
      "where the image has a link to %s, which is replaced and not followed",
      async (target) => {
        const link = async ({ tree }: { readonly tree: string }): Promise<void> =>
          await symlink(target, join(tree, "etc/resolv.conf"));
        await using sandbox = await open({ files: { "etc/motd": "old" }, prepare: link });
        const agent = await sandbox.nextAgent();
        expect(await agent.ask(`read ${PATH}`)).toBe(TEXT);
        expect(await agent.ask(`stat ${PATH}`)).toMatch(/^100644 /);
        expect(await agent.ask("read /etc/motd")).toBe("old");
        expect(await readlink(join(sandbox.tree, "etc/resolv.conf"))).toBe(target);
        expect(await readFile(join(sandbox.tree, "etc/motd"), "utf8")).toBe("old");
        expect(await readdir(sandbox.vsock)).not.toContain("escaped");
      },
    );

    test("where /etc is the host's, read-only: it is covered, and the host's file stays as it is", async () => {
      const folder = await makeHostFolder(`host-etc-${as}`);
      await using sandbox = await open({ launcherArguments: ["--bind-ro", `${folder}:/etc`] });
      const agent = await sandbox.nextAgent();
      expect(await agent.ask(`read ${PATH}`)).toBe(TEXT);
      expect(await agent.ask(`write ${PATH} x`)).toBe("ok");
      expect(await agent.lines("list /etc")).toEqual(expect.arrayContaining(["resolv.conf"]));
      expect(await readFile(join(folder, "resolv.conf"), "utf8")).toBe("the host's own");
      expect(sandbox.stderr).not.toContain("resolv.conf");
    });

    test("where the host's file is bound over the image's: neither changes", async () => {
      const folder = await makeHostFolder(`host-file-${as}`);
      await using sandbox = await open({
        launcherArguments: ["--bind-ro", `${join(folder, "resolv.conf")}:${PATH}`],
      });
      const agent = await sandbox.nextAgent();
      expect(await agent.ask(`read ${PATH}`)).toBe(TEXT);
      expect(await readFile(join(folder, "resolv.conf"), "utf8")).toBe("the host's own");
    });
  },
);

describe("an /etc that belongs to nobody of the user namespace", () => {
  const open = async (fill: (etc: string) => Promise<void>) => {
    const prepare = async ({ tree }: { readonly tree: string }): Promise<void> => {
      const etc = join(tree, "etc");
      await mkdir(etc);
      await fill(etc);
      await chown(etc, 0, 0);
    };
    return await openSandbox({ workshop, as: "ordinary", prepare });
  };

  test.skipIf(!isRoot)("is covered where it has a file", async () => {
    await using sandbox = await open(async (etc) => await writeFile(join(etc, "resolv.conf"), "old"));
    const agent = await sandbox.nextAgent();
    expect(await agent.ask(`read ${PATH}`)).toBe(TEXT);
    expect(await readFile(join(sandbox.tree, "etc/resolv.conf"), "utf8")).toBe("old");
  });

  test.skipIf(!isRoot)("stays as it is where it has a link or nothing, and init says so", async () => {
    await using linked = await open(async (etc) => await symlink("motd", join(etc, "resolv.conf")));
    await linked.nextAgent();
    expect(linked.stderr).toMatch(
      /^init: no \/etc\/resolv.conf: EACCES, and nothing mounted over it: ELOOP$/m,
    );
    await using empty = await open(async () => undefined);
    await empty.nextAgent();
    expect(empty.stderr).toMatch(
      /^init: no \/etc\/resolv.conf: EACCES, and nothing mounted over it: ENOENT$/m,
    );
  });
});
