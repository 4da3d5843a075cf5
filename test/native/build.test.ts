import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { buildNative } from "../../native/build.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "native-build-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const digest = async (path: string): Promise<string> =>
  createHash("sha256")
    .update(await readFile(path))
    .digest("hex");

/** A folder with a `cc` that runs `script` for everything but --version. */
async function fakeCompiler(script: string): Promise<string> {
  const folder = join(directory, "bin");
  await mkdir(folder);
  await symlink("/bin/sh", join(folder, "sh"));
  await writeFile(
    join(folder, "cc"),
    `#!/bin/sh\n[ "$1" = --version ] && { echo fake; exit 0; }\n${script}\n`,
  );
  await chmod(join(folder, "cc"), 0o755);
  return folder;
}

describe("the native build", () => {
  test("makes the same programs in any folder, without a trace of where, and nothing else", async () => {
    const first = await buildNative(join(directory, "first"));
    const second = await buildNative(join(directory, "deeper", "second"));
    for (const name of ["init", "initctl", "launcher", "serviceExec", "nsmDevice", "addon"] as const) {
      expect(await digest(second[name])).toBe(await digest(first[name]));
      const program = await readFile(first[name]);
      expect(program.includes(import.meta.dirname.replace(/\/test\/native$/, "/native"))).toBe(false);
    }
    expect((await readdir(join(directory, "first"))).toSorted()).toEqual([
      "init",
      "initctl",
      "launcher",
      "node-headers",
      "nsm-device",
      "service-exec",
      "stamp",
      "vsock.node",
    ]);
  });

  test("does nothing if nothing changed, and works again if a program is missing", async () => {
    const out = join(directory, "out");
    const { init, launcher } = await buildNative(out);
    const before = await stat(init);
    await buildNative(out);
    expect((await stat(init)).ino).toBe(before.ino);
    await rm(launcher);
    await buildNative(out);
    expect((await stat(launcher)).size).toBeGreaterThan(0);
  });

  test("works twice at once", async () => {
    const out = join(directory, "out");
    const [one, two] = await Promise.all([buildNative(out), buildNative(out)]);
    expect(one).toEqual(two);
    expect((await readdir(out)).toSorted()).toEqual([
      "init",
      "initctl",
      "launcher",
      "node-headers",
      "nsm-device",
      "service-exec",
      "stamp",
      "vsock.node",
    ]);
  });

  test("names the packages to install where there is no compiler", async () => {
    await expect(buildNative(join(directory, "out"), { path: "/nonexistent" })).rejects.toMatchObject({
      code: "E_NATIVE_COMPILER",
      message: "no working C compiler `cc` in /nonexistent",
      hint: expect.stringContaining("gcc and libc6-dev"),
    });
  });

  test.each([
    ["/usr/bin/ld: cannot find -lc: No such file or directory", "cannot find -lc"],
    [
      "init/end.c:10:10: fatal error: errno.h: No such file or directory",
      "fatal error: errno.h: No such file",
    ],
  ])("names the packages to install where there is no static C library: %s", async (output, reason) => {
    const path = await fakeCompiler(`echo '${output}' >&2; exit 1`);
    const out = join(directory, "out");
    await expect(buildNative(out, { path })).rejects.toMatchObject({
      code: "E_NATIVE_COMPILER",
      message: expect.stringContaining(reason),
    });
    expect(await readdir(out)).toEqual([]);
  });

  test("shows the first error where the compiler refuses a source", async () => {
    const path = await fakeCompiler("echo 'x.c:1:1: error: no such thing' >&2; exit 1");
    await expect(buildNative(join(directory, "out"), { path })).rejects.toMatchObject({
      code: "E_NATIVE_BUILD",
      message: expect.stringMatching(
        /^cannot compile (addon|init|initctl|launcher|nsm-device|service-exec): x\.c:1:1: error: no such thing$/,
      ),
    });
  });
});
