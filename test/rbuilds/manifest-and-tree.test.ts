import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { addDirectory } from "../../rbuilds/directory-source.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import { addHostBase } from "../../rbuilds/host-base.ts";
import { decodeManifest, encodeManifest, manifestDigest } from "../../rbuilds/manifest-file.ts";
import { materialiseTree, type TreeOwners } from "../../rbuilds/tree.ts";
import { resolveUser } from "../../rbuilds/users.ts";
import type { ManifestEntry } from "../../wire/manifest.ts";
import { codeOf, openRootfsTestbed, rawTar, run, type RootfsTestbed } from "./rootfs-testbed.ts";

const isRoot = process.getuid?.() === 0;
let bed: RootfsTestbed;
beforeAll(async () => {
  bed = await openRootfsTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

const name = fc.stringMatching(/^[a-zé][a-z0-9-]{0,5}$/);
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join("/")}`);
const owner = fc.record({ path, mode: fc.nat(0o7777), uid: fc.nat(70_000), gid: fc.nat(70_000) });
const entry: fc.Arbitrary<ManifestEntry> = fc.oneof(
  owner.map((base) => ({ ...base, type: "directory" as const })),
  owner.map((base) => ({ ...base, type: "symlink" as const, target: "../x" })),
  owner.map((base) => ({ ...base, type: "character" as const, major: 1, minor: 3 })),
  owner.map((base) => ({
    ...base,
    type: "file" as const,
    digest: "ab".repeat(32),
    size: 7,
    xattrs: { "user.a": "eA==" },
  })),
);

/** The tree of entries, where one that cannot be placed below another is left out. */
function treeOf(entries: readonly ManifestEntry[]): FileTree {
  const tree = new FileTree();
  for (const one of entries) {
    try {
      tree.set(one);
    } catch (error) {
      expect(error).toBeInstanceOf(KitError);
    }
  }
  return tree;
}

describe("manifests", () => {
  test("any tree is encoded and decoded without change, whatever the order it was filled in", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
        const manifest = treeOf(entries).toManifest();
        expect(decodeManifest(encodeManifest(manifest))).toEqual(manifest);
        expect(manifestDigest(FileTree.fromManifest(manifest).toManifest())).toBe(manifestDigest(manifest));
      }),
    );
  });

  test("parents come before children, and the order is that of bytes", () => {
    const tree = new FileTree();
    for (const one of ["/b", "/a/é", "/a/z", "/a-b", "/A"]) {
      tree.set({ type: "directory", path: one, mode: 0o755, uid: 0, gid: 0 });
    }
    expect(tree.entries().map((one) => one.path)).toEqual(["/", "/A", "/a", "/a-b", "/a/z", "/a/é", "/b"]);
  });

  const good = (): string => {
    const tree = new FileTree();
    tree.set({ type: "file", path: "/a", mode: 0o644, uid: 0, gid: 0, digest: "ab".repeat(32), size: 1 });
    return encodeManifest(tree.toManifest()).toString();
  };
  test.each([
    ["another version", (text: string) => text.replace('"version":1', '"version":2')],
    ["an unknown key", (text: string) => text.replace('"type":"file"', '"type":"file","more":1')],
    ["a digest that is a path", (text: string) => text.replace("ab".repeat(32), "../".repeat(21) + "a")],
    ["a path that leads upwards", (text: string) => text.replace('"/a"', '"/../a"')],
    ["a negative owner", (text: string) => text.replace(/"uid":0(?=.*"\/a")?/, '"uid":-1')],
    ["an entry without its parent", (text: string) => text.replace('"/a"', '"/x/a"')],
    ["trailing text", (text: string) => `${text}x`],
    ["no entries at all", () => '{"version":1,"entries":[\n\n]}\n'],
    [
      "a root that is a file",
      (text: string) => text.replace(/\{"type":"directory".*\n/, "").replace('"/a"', '"/"'),
    ],
    [
      "a symbolic link that says nothing",
      (text: string) =>
        text.replace('"type":"file"', '"type":"symlink"').replace(/"digest".*"size":1/, '"target":""'),
    ],
  ])("refuses %s", async (_title, change) => {
    const text = change(good());
    expect(text).not.toBe(good());
    expect(() => decodeManifest(Buffer.from(text))).toThrow(KitError);
  });

  test("any bytes and any change of a good manifest give a manifest or a coded refusal", () => {
    const bytes = Buffer.from(good());
    const changed = fc
      .tuple(fc.nat(bytes.length - 1), fc.nat(255))
      .map(([index, value]) => bytes.with(index, value));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), changed), (candidate) => {
        try {
          decodeManifest(candidate);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("trees on disk", () => {
  const archive = rawTar([
    { name: "bin/", type: "5", mode: 0o555 },
    { name: "bin/su", content: "su", mode: 0o4755 },
    { name: "bin/sudo", type: "1", link: "bin/su" },
    { name: "home/", type: "5", mode: 0o700, uid: 1000 },
    { name: "home/file", content: "mine", mode: 0o600, uid: 1000 },
    { name: "link", type: "2", link: "/etc/passwd", uid: 1000 },
    { name: "null", type: "3" },
  ]);

  async function materialise(directory: string, owners: TreeOwners): Promise<FileTree> {
    const tree = await bed.apply([archive]);
    const result = await materialiseTree(tree.toManifest(), bed.path(directory), {
      owners,
      blobPath: bed.blobs.path,
    });
    expect(result).toEqual({ devicesSkipped: 1, xattrsSkipped: 0 });
    return tree;
  }

  test.skipIf(!isRoot)("owners and modes are those of the manifest (needs root to set owners)", async () => {
    const tree = await materialise("mapped", { kind: "mapped" });
    for (const one of tree.entries()) {
      if (one.type === "character") continue;
      const info = await lstat(bed.path("mapped", one.path));
      expect([info.uid, info.gid], one.path).toEqual([one.uid, one.gid]);
      if (one.type !== "symlink") expect(info.mode & 0o7777, one.path).toBe(one.mode);
    }
    expect(await readFile(bed.path("mapped", "bin/sudo"), "utf8")).toBe("su");
    expect((await lstat(bed.path("mapped", "bin/su"))).nlink).toBe(2);
    expect(await readlink(bed.path("mapped", "link"))).toBe("/etc/passwd");
  });

  test.skipIf(!isRoot)("shifted owners are beyond the base (needs root to set owners)", async () => {
    await materialise("shifted", { kind: "shifted", base: 1_000_000, count: 65_536 });
    expect((await lstat(bed.path("shifted", "home"))).uid).toBe(1_001_000);
    expect((await lstat(bed.path("shifted"))).uid).toBe(1_000_000);
    const tooFew = materialise("few", { kind: "shifted", base: 1_000_000, count: 1000 });
    expect(await codeOf(tooFew)).toBe("E_IMAGE_TREE");
    await expect(lstat(bed.path("few"))).rejects.toThrow("ENOENT");
  });

  test("with one owner nothing is setuid, and the rest is as it should be", async () => {
    await materialise("single", { kind: "single" });
    expect((await lstat(bed.path("single", "bin/su"))).mode & 0o7777).toBe(0o755);
    expect((await lstat(bed.path("single", "home/file"))).uid).toBe(process.getuid?.());
  });

  test.skipIf(!isRoot)("is what GNU tar makes of the same archive (needs root to set owners)", async () => {
    await materialise("ours", { kind: "mapped" });
    await mkdir(bed.path("theirs"));
    await writeFile(bed.path("tree.tar"), archive);
    await run("tar", ["-C", bed.path("theirs"), "--numeric-owner", "-xpf", bed.path("tree.tar")]);
    const list = async (directory: string): Promise<string[]> => {
      const format = ["-mindepth", "1", "-not", "-type", "c", "-printf", "%P %y %m %U:%G %n %l\\n"];
      const { stdout } = await run("find", [bed.path(directory), ...format]);
      return stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.replace(/^(\S+ d .*) \d+ $/, "$1")) // directories count their subdirectories, or not
        .sort();
    };
    expect(await list("ours")).toEqual(await list("theirs"));
  });

  test("written by several at once, each is whole when it appears", async () => {
    const members = Array.from({ length: 300 }, (_, index) => ({
      name: `f${index}`,
      content: String(index),
    }));
    const tree = await bed.apply([rawTar(members)]);
    const options = { owners: { kind: "single" } as const, blobPath: bed.blobs.path };
    const write = async (): Promise<number> => {
      await materialiseTree(tree.toManifest(), bed.path("shared"), options);
      return (await readdir(bed.path("shared"))).length;
    };
    expect(await Promise.all([write(), write(), write()])).toEqual([300, 300, 300]);
    expect((await readdir(bed.directory)).filter((one) => one.includes(".shared"))).toEqual([]);
  });

  test("leaves nothing when it fails or is cancelled in the middle", async () => {
    const members = Array.from({ length: 300 }, (_, index) => ({
      name: `f${index}`,
      content: String(index),
    }));
    const tree = await bed.apply([rawTar(members)]);
    const controller = new AbortController();
    const blobPath = (digest: string): string => {
      const middle = tree.get("/f150");
      if (middle?.type === "file" && middle.digest === digest) controller.abort();
      return bed.blobs.path(digest);
    };
    const { signal } = controller;
    const options = { owners: { kind: "single" } as const, blobPath, signal };
    expect(await codeOf(materialiseTree(tree.toManifest(), bed.path("broken"), options))).toBe("E_CANCELLED");
    expect((await readdir(bed.directory)).filter((one) => one.includes("broken"))).toEqual([]);
  });

  test("a blob that lost its end is told, not copied", async () => {
    const tree = await bed.apply([rawTar([{ name: "x", content: "whole content" }])]);
    const entry = tree.get("/x");
    const path = bed.blobs.path(entry?.type === "file" ? entry.digest : "");
    await rm(path);
    await writeFile(path, "whole");
    const options = { owners: { kind: "single" } as const, blobPath: bed.blobs.path };
    expect(await codeOf(materialiseTree(tree.toManifest(), bed.path("cut"), options))).toBe(
      "E_IMAGE_BLOB_MISSING",
    );
    await bed.apply([rawTar([{ name: "x", content: "whole content" }])]);
    expect(await readFile(path, "utf8")).toBe("whole content");
  });

  test("can be removed by an ordinary owner, whatever its directories allow", async ({ skip }) => {
    const home = await mkdtemp(join(tmpdir(), "removal-"));
    try {
      const prefix = isRoot ? ["--reuid=65534", "--regid=65534", "--clear-groups"] : [];
      const program = fileURLToPath(new URL("../../rbuilds/tree-main.ts", import.meta.url));
      const runAs = async (...command: readonly string[]): Promise<unknown> =>
        isRoot ? await run("setpriv", [...prefix, ...command]) : await run("env", command);
      await run("sh", [
        "-c",
        'mkdir -p "$0/t/a/b" && touch "$0/t/a/b/f" && chmod 000 "$0/t/a/b" "$0/t/a"',
        home,
      ]);
      if (isRoot) await run("chown", ["-R", "65534:65534", home]);
      await runAs("test", "-r", program).catch(() => skip("the sources cannot be read by an ordinary user"));
      await runAs(process.execPath, program, "remove", `${home}/t`);
      expect(await readdir(home)).toEqual([]);
    } finally {
      await run("chmod", ["-R", "u+rwx", home]);
      await rm(home, { recursive: true });
    }
  });

  test("a tree whose content is missing does not appear at all", async () => {
    const tree = new FileTree();
    tree.set({ type: "file", path: "/a", mode: 0o644, uid: 0, gid: 0, digest: "ab".repeat(32), size: 1 });
    const options = { owners: { kind: "single" } as const, blobPath: bed.blobs.path };
    expect(await codeOf(materialiseTree(tree.toManifest(), bed.path("never"), options))).toBe(
      "E_IMAGE_BLOB_MISSING",
    );
    await expect(lstat(bed.path("never"))).rejects.toThrow("ENOENT");
  });

  test.skipIf(!isRoot)(
    "a full disk is told as such, and leaves nothing half-made (needs root to mount one)",
    async () => {
      const small = bed.path("small");
      await mkdir(small);
      await run("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", small]);
      try {
        const blobs = await openBlobStore(`${small}/blobs`);
        expect(await codeOf(blobs.put(Buffer.alloc(1 << 20)))).toBe("E_DISK_FULL");
        const tree = await bed.apply([rawTar([{ name: "big", content: Buffer.alloc(1 << 20) }])]);
        const options = { owners: { kind: "single" } as const, blobPath: bed.blobs.path };
        expect(await codeOf(materialiseTree(tree.toManifest(), `${small}/tree`, options))).toBe(
          "E_DISK_FULL",
        );
        const { stdout } = await run("find", [small, "-mindepth", "1", "-not", "-path", `${small}/blobs*`]);
        expect(stdout).toBe("");
        expect((await run("find", [small, "-type", "f"])).stdout).toBe("");
      } finally {
        await run("umount", [small]);
      }
    },
  );
});

describe("directories of the host", () => {
  test("become root's, keep modes and links, in a stable order", async () => {
    const source = bed.path("dir");
    await mkdir(`${source}/sub`, { recursive: true, mode: 0o750 });
    await writeFile(`${source}/sub/run`, "x", { mode: 0o755 });
    await symlink("run", `${source}/sub/link`);
    const tree = new FileTree();
    await addDirectory(source, "/app", { tree, blobs: bed.blobs });
    expect(tree.get("/app/sub")).toMatchObject({ mode: 0o750, uid: 0 });
    expect(tree.get("/app/sub/run")).toMatchObject({ mode: 0o755, uid: 0, size: 1 });
    expect(tree.get("/app/sub/link")).toMatchObject({ type: "symlink", target: "run" });
    await rm(source, { recursive: true });
  });

  test("go into the directory that a link of the image names, and leave the link", async () => {
    const linked = [
      { name: "usr/bin/", type: "5" },
      { name: "bin", type: "2", link: "usr/bin" },
      { name: "tool", content: "old" },
      { name: "alias", type: "1", link: "tool" },
    ];
    await mkdir(bed.path("overlay", "bin"), { recursive: true });
    await writeFile(bed.path("overlay", "bin", "run"), "x");
    await writeFile(bed.path("overlay", "tool"), "new");
    const tree = await bed.apply([rawTar(linked)]);
    await addDirectory(bed.path("overlay"), "/", { tree, blobs: bed.blobs });
    expect(tree.get("/bin")?.type).toBe("symlink");
    expect(tree.get("/usr/bin/run")?.type).toBe("file");
    expect([await bed.text(tree, "/tool"), await bed.text(tree, "/alias")]).toEqual(["new", "old"]);
  });

  test("refuse names and links that are not UTF-8", async () => {
    const odd = Buffer.from([0x61, 0xff]);
    for (const [folder, make] of [
      ["odd-link", (at: string) => symlink(odd, `${at}/link`)],
      ["odd-name", (at: string) => writeFile(Buffer.concat([Buffer.from(`${at}/`), odd]), "")],
    ] as const) {
      await mkdir(bed.path(folder));
      await make(bed.path(folder));
      const added = addDirectory(bed.path(folder), "/x", { tree: new FileTree(), blobs: bed.blobs });
      await expect(added).rejects.toMatchObject({
        code: "E_IMAGE_SOURCE",
        message: expect.stringContaining("UTF-8"),
      });
    }
  });

  test("that cannot be read, in a store that cannot be written, are one refusal and heard by the caller alone", async () => {
    const blobs = await openBlobStore(bed.path("gone"));
    await rm(bed.path("gone"), { recursive: true });
    await expect(blobs.putFile(bed.path("vanished"))).rejects.toThrow("ENOENT");
    // An error that nobody hears ends the run while files are opened, so one more is opened.
    await expect(bed.blobs.putFile(bed.path("vanished"))).rejects.toThrow("ENOENT");
    await setImmediate();
  });

  test("refuse what cannot go into an image", async () => {
    const tree = new FileTree();
    expect(await codeOf(addDirectory(bed.path("none"), "/x", { tree, blobs: bed.blobs }))).toBe(
      "E_CONFIG_FILE_MISSING",
    );
    await mkdir(bed.path("odd"));
    await run("mkfifo", [bed.path("odd", "pipe")]);
    expect(await codeOf(addDirectory(bed.path("odd"), "/x", { tree, blobs: bed.blobs }))).toBe(
      "E_IMAGE_SOURCE",
    );
  });
});

describe("users of an image", () => {
  const archive = rawTar([
    { name: "etc/", type: "5" },
    {
      name: "etc/passwd",
      content: "root:x:0:0:root:/root:/bin/sh\nbroken\nredis:x:101:102::/var/lib/redis:/bin/false\n",
    },
    { name: "etc/group", content: "root:x:0:\nredis:x:102:\nssl:x:110:redis,other\naudio:x:29:redis\n" },
  ]);
  test.each([
    ["redis", { name: "redis", uid: 101, gid: 102, groups: [29, 110], home: "/var/lib/redis" }],
    ["101", { name: "redis", uid: 101, gid: 102, groups: [29, 110], home: "/var/lib/redis" }],
    ["redis:ssl", { name: "redis", uid: 101, gid: 110, groups: [], home: "/var/lib/redis" }],
    ["4242", { name: "4242", uid: 4242, gid: 0, groups: [], home: "/" }],
    ["4242:7", { name: "4242", uid: 4242, gid: 7, groups: [], home: "/" }],
  ])("%s", async (spec, user) => {
    expect(await resolveUser(await bed.apply([archive]), bed.blobs, spec)).toEqual(user);
  });

  test("an unknown one is refused with the nearest name", async () => {
    const tree = await bed.apply([archive]);
    await expect(resolveUser(tree, bed.blobs, "redsi")).rejects.toMatchObject({
      code: "E_IMAGE_USER_UNKNOWN",
      message: expect.stringContaining('did you mean "redis"'),
    });
    expect(await codeOf(resolveUser(tree, bed.blobs, "redis:nogroup"))).toBe("E_IMAGE_USER_UNKNOWN");
    expect(await codeOf(resolveUser(tree, bed.blobs, "redis:ssl:more"))).toBe("E_IMAGE_USER_UNKNOWN");
  });
});

test("the host as a base is a skeleton with links as on the host, and binds that exist there", async () => {
  const tree = new FileTree();
  const binds = await addHostBase(tree, bed.blobs);
  expect(binds[0]).toBe("/usr");
  for (const path of binds) expect((await lstat(path)).isSymbolicLink(), path).toBe(false);
  for (const path of ["/bin", "/lib", "/lib64"]) {
    const onHost = await lstat(path).catch(() => undefined);
    const isDirectory = tree.get(path)?.type === "directory" && binds.includes(path);
    if (onHost?.isSymbolicLink() === true) expect(tree.get(path)).toMatchObject({ type: "symlink" });
    else expect(isDirectory, path).toBe(onHost !== undefined);
  }
  expect(tree.get("/tmp")).toMatchObject({ mode: 0o1777 });
  expect(await resolveUser(tree, bed.blobs, "nobody")).toMatchObject({ uid: 65_534, gid: 65_534 });
});
