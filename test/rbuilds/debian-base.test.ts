import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { resolvePackages } from "../../rbuilds/apt.ts";
import { fetchPackages } from "../../rbuilds/apt-fetch.ts";
import { type BlobStore, openBlobStore } from "../../rbuilds/blob-store.ts";
import { buildDebianBase } from "../../rbuilds/debian-base.ts";
import { openPackages } from "../../rbuilds/debian-packages.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import type { LockedPackage } from "../../rbuilds/locked-package.ts";
import { encodeManifest, manifestDigest } from "../../rbuilds/manifest-file.ts";
import {
  ARCHITECTURE,
  type DebInit,
  localSource,
  makeDeb,
  sharedCache,
  writeAptSystem,
  writeRepository,
} from "../fixtures/rbuilds/debian-testbed.ts";
import { runInRoot, writeTree } from "../fixtures/rbuilds/written-tree.ts";

const isRoot = process.getuid?.() === 0;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "debian-base-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("the base of redis-server and ca-certificates", () => {
  let locked: readonly LockedPackage[];
  let tree: FileTree;
  let blobs: BlobStore;
  let warnings: readonly string[];
  let root: string;

  beforeAll(async () => {
    const cacheDir = sharedCache();
    locked = await resolvePackages(["redis-server", "ca-certificates"], {
      architecture: ARCHITECTURE,
      cacheDir,
    });
    blobs = await openBlobStore(join(cacheDir, "blobs"));
    tree = new FileTree();
    const built = await buildDebianBase(locked, { tree, blobs, cacheDir, architecture: ARCHITECTURE });
    warnings = built.warnings;
    root = await mkdtemp(join(tmpdir(), "debian-base-root-"));
    if (isRoot) await writeTree(tree, blobs, root);
  });
  afterAll(async () => {
    await rm(root, { recursive: true, force: true });
  });

  test("is built without a warning", () => {
    expect(warnings).toEqual([]);
  });

  test("has no file in the old folders of /usr", () => {
    const old = tree.entries().filter(({ path }) => /^\/(?:bin|sbin|lib|lib64)\//.test(path));
    expect(old).toEqual([]);
  });

  test("belongs to root but for what the packages' scripts give away", () => {
    const given = tree.entries().filter(({ uid }) => uid !== 0);
    expect(given.map(({ path }) => path)).toEqual([
      "/etc/redis",
      "/etc/redis/redis.conf",
      "/var/lib/redis",
      "/var/log/redis",
    ]);
  });

  test.skipIf(!isRoot)("runs redis-server, a shell, id and awk (root: chroot)", async () => {
    const version = await runInRoot(root, ["redis-server", "--version"]);
    expect(version).toMatchObject({ status: 0, output: expect.stringMatching(/^Redis server v=/) });
    expect(await runInRoot(root, ["sh", "-c", "id redis"])).toMatchObject({
      status: 0,
      output: expect.stringMatching(/^uid=1\d\d\(redis\) gid=1\d\d\(redis\)/),
    });
    expect(await runInRoot(root, ["awk", "BEGIN { print 6 * 7 }"])).toEqual({ status: 0, output: "42\n" });
  });

  test.skipIf(!isRoot)("holds a database that dpkg finds nothing wrong with (root: chroot)", async () => {
    expect(await runInRoot(root, ["dpkg", "--audit"])).toEqual({ status: 0, output: "" });
    const { output } = await runInRoot(root, ["dpkg-query", "-W", "-f", "${Package}\\n"]);
    expect(output.trim().split("\n").toSorted()).toEqual(locked.map(({ name }) => name));
  });

  test.skipIf(!isRoot)("has the cache that ldconfig would write (root)", async () => {
    const run = promisify(execFile);
    const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };
    const cache = join(root, "etc/ld.so.cache");
    const list = async () => (await run("ldconfig", ["-p", "-C", cache], { env })).stdout.match(/^\t.*$/gm);
    const ours = await list();
    await run("ldconfig", ["-X", "-r", root], { env });
    expect(ours).toEqual(await list());
  });

  test("has the same manifest from another cache and from a warm one", async () => {
    const cacheDir = join(directory, "cache");
    await mkdir(join(cacheDir, "debs"), { recursive: true });
    const shared = await fetchPackages(locked, { architecture: ARCHITECTURE, cacheDir: sharedCache() });
    for (const path of shared.values()) await copyFile(path, join(cacheDir, "debs", basename(path)));
    const other = await openBlobStore(join(cacheDir, "blobs"));
    const cold = new FileTree();
    await buildDebianBase(locked, { tree: cold, blobs: other, cacheDir, architecture: ARCHITECTURE });
    // Nothing but what was unpacked is needed the second time.
    await rm(join(cacheDir, "debs"), { recursive: true });
    const warm = new FileTree();
    await buildDebianBase(locked, { tree: warm, blobs: other, cacheDir, architecture: ARCHITECTURE });
    expect(manifestDigest(cold.toManifest())).toBe(manifestDigest(tree.toManifest()));
    expect(encodeManifest(warm.toManifest()).equals(encodeManifest(cold.toManifest()))).toBe(true);
  });
});

describe("packages made on the spot", () => {
  async function build(...inits: readonly DebInit[]) {
    const repository = join(directory, "repository");
    const debs = await Promise.all(inits.map((init) => makeDeb(directory, init)));
    await writeRepository(repository, debs);
    const system = await writeAptSystem(directory, [localSource(repository)]);
    const cacheDir = join(directory, "cache");
    const options = { architecture: ARCHITECTURE, cacheDir, system };
    const names = inits.map(({ name }) => name);
    const locked = await resolvePackages(names, { ...options, withBase: false });
    const blobs = await openBlobStore(join(cacheDir, "blobs"));
    const tree = new FileTree();
    const { warnings } = await buildDebianBase(locked, { ...options, blobs, tree });
    return { tree, blobs, warnings, locked, options: { ...options, blobs } };
  }

  test("never run their scripts", async () => {
    const mark = join(directory, "script-ran");
    await build({ name: "alpha", postinst: `#!/bin/sh\ntouch ${mark}\n` });
    expect(await readdir(directory)).not.toContain("script-ran");
  });

  test("lose documentation and keep copyright", async () => {
    const { tree } = await build({
      name: "alpha",
      files: {
        "/usr/share/doc/alpha/README": "x",
        "/usr/share/doc/alpha/copyright": "x",
        "/usr/share/man/man1/alpha.1": "x",
        "/usr/bin/alpha": "x",
      },
    });
    expect(tree.get("/usr/share/doc/alpha/copyright")).toBeDefined();
    expect(tree.get("/usr/bin/alpha")).toBeDefined();
    expect(tree.get("/usr/share/doc/alpha/README")).toBeUndefined();
    expect(tree.get("/usr/share/man/man1/alpha.1")).toBeUndefined();
  });

  test("that have the same path with other content lead to a warning", async () => {
    const { warnings, tree } = await build(
      { name: "alpha", files: { "/etc/same": "equal", "/bin/x": "one" } },
      { name: "beta", files: { "/etc/same": "equal", "/usr/bin/x": "other" } },
    );
    expect(warnings).toEqual(["alpha and beta both have /usr/bin/x; the one of beta is used"]);
    expect(tree.get("/usr/bin/x")).toMatchObject({ size: 5 });
  });

  test("lead to a warning for accounts that cannot be read", async () => {
    const { warnings } = await build({
      name: "alpha",
      postinst: '#!/bin/sh\nadduser --system "$(id -un)"\n',
    });
    expect(warnings).toEqual([expect.stringMatching(/^alpha makes system accounts/)]);
  });

  test("lead to a warning for work that is left to the operator", async () => {
    const { warnings } = await build({ name: "openssh-server" }, { name: "alpha" });
    expect(warnings).toEqual([expect.stringMatching(/^openssh-server: no host keys are made/)]);
  });

  test("are refused when their .deb is damaged, and unpacked once it is whole again", async () => {
    const { locked, options } = await build({ name: "alpha", files: { "/usr/bin/alpha": "x" } });
    await rm(join(options.cacheDir, "unpacked-1"), { recursive: true });
    const path = join(options.cacheDir, "debs", `${locked[0]?.sha256}.deb`);
    await writeFile(path, Buffer.alloc(locked[0]?.sizeBytes ?? 0));
    await expect(openPackages(locked, options)).rejects.toMatchObject({ code: "E_IMAGE_PACKAGE_CONTENT" });
    await rm(path);
    await fetchPackages(locked, options);
    expect(await openPackages(locked, options)).toMatchObject([{ name: "alpha", version: "1.0" }]);
  });

  test("are unpacked again when their contents are gone from the store", async () => {
    const { locked, options } = await build({ name: "alpha", files: { "/usr/bin/alpha": "x" } });
    await rm(join(options.cacheDir, "blobs"), { recursive: true });
    const blobs = await openBlobStore(join(options.cacheDir, "blobs"));
    const [alpha] = await openPackages(locked, { ...options, blobs });
    const file = alpha?.entries.find(({ path }) => path === "/usr/bin/alpha");
    expect(await blobs.has(file?.type === "file" ? file.digest : "0".repeat(64))).toBe(true);
  });

  test("are left half-made by nobody when the build is cancelled", async () => {
    const { locked, options } = await build({ name: "alpha", files: { "/usr/bin/alpha": "x" } });
    await rm(join(options.cacheDir, "unpacked-1"), { recursive: true });
    const signal = AbortSignal.abort(new DOMException("stop", "AbortError"));
    await expect(openPackages(locked, { ...options, signal })).rejects.toMatchObject({ name: "AbortError" });
    expect(await readdir(options.cacheDir)).not.toContain("unpacked-1");
  });
});
