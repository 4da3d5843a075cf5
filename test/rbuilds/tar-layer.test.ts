import { chmod, link, mkdir, symlink, writeFile } from "node:fs/promises";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { openRootfsTestbed, rawTar, run, type RootfsTestbed } from "./rootfs-testbed.ts";

let bed: RootfsTestbed;
beforeAll(async () => {
  bed = await openRootfsTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

describe("what GNU tar writes is read as GNU tar means it", () => {
  const long = `${"deep/".repeat(40)}${"n".repeat(150)}`;

  beforeAll(async () => {
    const source = bed.path("source");
    await mkdir(`${source}/${long.slice(0, long.lastIndexOf("/"))}`, { recursive: true });
    await writeFile(`${source}/${long}`, "long");
    await writeFile(`${source}/plain`, "content");
    await chmod(`${source}/plain`, 0o4755);
    await writeFile(`${source}/größe`, "utf-8");
    await writeFile(`${source}/empty`, "");
    await link(`${source}/plain`, `${source}/second`);
    await symlink("/absolute/target", `${source}/link`);
    await run("mkfifo", [`${source}/pipe`]);
  });

  test.each(["gnu", "pax"])("--format=%s", async (format) => {
    const archive = bed.path(`${format}.tar`);
    const owner = ["--owner=u:105", "--group=g:2100000", "--numeric-owner"];
    await run("tar", [
      "-C",
      bed.path("source"),
      `--format=${format}`,
      "--sort=name",
      ...owner,
      "-cf",
      archive,
      ".",
    ]);
    const tree = await bed.apply([archive]);
    expect(tree.get("/plain")).toMatchObject({
      type: "file",
      mode: 0o4755,
      uid: 105,
      gid: 2_100_000,
      size: 7,
    });
    expect(tree.get("/second")).toMatchObject({ type: "hardlink", target: "/plain", mode: 0o4755, uid: 105 });
    expect(tree.get("/link")).toMatchObject({ type: "symlink", target: "/absolute/target" });
    expect(tree.get("/pipe")).toMatchObject({ type: "fifo" });
    expect(tree.get("/empty")).toMatchObject({ type: "file", size: 0 });
    expect(await bed.text(tree, "/größe")).toBe("utf-8");
    expect(await bed.text(tree, `/${long}`)).toBe("long");
  });

  test("--format=ustar with a prefix, and gzip and zstd around it", async () => {
    const archive = bed.path("ustar.tar");
    await run("tar", ["-C", bed.path("source"), "--format=ustar", "--exclude=n*", "-cf", archive, "."]);
    const tree = await bed.apply([archive]);
    expect(tree.get("/deep/deep/deep")?.type).toBe("directory");
    const { readFile } = await import("node:fs/promises");
    const bytes = await readFile(archive);
    for (const compressed of [gzipSync(bytes), zstdCompressSync(bytes)]) {
      expect((await bed.apply([compressed])).toManifest()).toEqual(tree.toManifest());
    }
  });

  test.skipIf(process.getuid?.() !== 0)("devices keep their numbers (needs root to make one)", async () => {
    await mkdir(bed.path("devices"), { recursive: true });
    await run("mknod", [bed.path("devices", "zero"), "c", "1", "5"]);
    await run("mknod", [bed.path("devices", "disk"), "b", "259", "1000"]);
    await run("tar", ["-C", bed.path("devices"), "-cf", bed.path("devices.tar"), "."]);
    const tree = await bed.apply([bed.path("devices.tar")]);
    expect(tree.get("/zero")).toMatchObject({ type: "character", major: 1, minor: 5 });
    expect(tree.get("/disk")).toMatchObject({ type: "block", major: 259, minor: 1000 });
  });
});

describe("layers", () => {
  const lower = rawTar([
    { name: "a/", type: "5" },
    { name: "a/one", content: "1" },
    { name: "a/two", content: "2" },
    { name: "b", content: "b" },
  ]);

  test("a whiteout removes what is below, an opaque directory all of it but what its own layer brings", async () => {
    const upper = rawTar([{ name: "a/new", content: "n" }, { name: "a/.wh..wh..opq" }, { name: ".wh.b" }]);
    const tree = await bed.apply([lower, upper]);
    expect(tree.entries().map((entry) => entry.path)).toEqual(["/", "/a", "/a/new"]);
  });

  test("a file in the place of a directory removes what was below, and the reverse", async () => {
    const tree = await bed.apply(
      [lower, rawTar([{ name: "a", content: "file" }]), rawTar([{ name: "b/c", content: "x" }])].slice(0, 2),
    );
    expect(tree.get("/a")?.type).toBe("file");
    expect(tree.get("/a/one")).toBeUndefined();
  });

  test("names go through links of lower layers, inside the image", async () => {
    const linked = rawTar([
      { name: "usr/bin/", type: "5" },
      { name: "bin", type: "2", link: "usr/bin" },
      { name: "up", type: "2", link: "../../../usr" },
    ]);
    const tree = await bed.apply([
      linked,
      rawTar([
        { name: "bin/sh", content: "#!" },
        { name: "up/share", content: "s" },
      ]),
    ]);
    expect(tree.get("/bin")?.type).toBe("symlink");
    expect(tree.get("/usr/bin/sh")?.type).toBe("file");
    expect(tree.get("/usr/share")?.type).toBe("file");
  });
});

describe("hostile archives are refused by code", () => {
  const cases: readonly (readonly [string, Buffer, string])[] = [
    ["a name that leads upwards", rawTar([{ name: "../etc/passwd", content: "x" }]), "E_IMAGE_TAR_NAME"],
    [
      "a name that leads upwards in the middle",
      rawTar([{ name: "a/../../b", content: "x" }]),
      "E_IMAGE_TAR_NAME",
    ],
    ["an absolute name", rawTar([{ name: "/etc/passwd", content: "x" }]), "E_IMAGE_TAR_NAME"],
    ["a hard link upwards", rawTar([{ name: "x", type: "1", link: "../../etc/passwd" }]), "E_IMAGE_TAR_NAME"],
    ["a hard link to nothing", rawTar([{ name: "x", type: "1", link: "nothing" }]), "E_IMAGE_TAR_LINK"],
    [
      "a hard link to a directory",
      rawTar([
        { name: "d/", type: "5" },
        { name: "x", type: "1", link: "d" },
      ]),
      "E_IMAGE_TAR_LINK",
    ],
    [
      "a file twice",
      rawTar([
        { name: "x", content: "1" },
        { name: "./x", content: "2" },
      ]),
      "E_IMAGE_TAR_DUPLICATE",
    ],
    [
      "a file below a file",
      rawTar([
        { name: "x", content: "1" },
        { name: "x/y", content: "2" },
      ]),
      "E_IMAGE_TAR_NAME",
    ],
    [
      "links in a circle",
      rawTar([
        { name: "a", type: "2", link: "b" },
        { name: "b", type: "2", link: "a" },
        { name: "a/x", content: "1" },
      ]),
      "E_IMAGE_LINK_LOOP",
    ],
    ["a bad checksum", rawTar([{ name: "x", content: "1", badChecksum: true }]), "E_IMAGE_TAR"],
    ["an end in the middle of content", rawTar([{ name: "x", content: "1", size: 9999 }]), "E_IMAGE_TAR"],
    ["an end in the middle of a header", rawTar([{ name: "x" }]).subarray(0, 300), "E_IMAGE_TAR"],
    ["an unknown type", rawTar([{ name: "x", type: "Z" }]), "E_IMAGE_TAR"],
    [
      "a pax header of 2 MiB",
      rawTar([{ name: "x", type: "x", content: Buffer.alloc(2 << 20) }]),
      "E_IMAGE_TAR",
    ],
    [
      "a pax record with a wrong length",
      rawTar([{ name: "x", type: "x", content: "99 path=y\n" }, { name: "x" }]),
      "E_IMAGE_TAR",
    ],
    [
      "a pax size that is no number",
      rawTar([{ name: "x", type: "x", content: "13 size=1e99\n" }, { name: "x" }]),
      "E_IMAGE_TAR",
    ],
    [
      "a pax path with NUL",
      rawTar([{ name: "x", type: "x", content: "12 path=a\0b\n" }, { name: "x" }]),
      "E_IMAGE_TAR_NAME",
    ],
    [
      "an archive that ends after an extension",
      rawTar([{ name: "x", type: "L", content: "name" }]),
      "E_IMAGE_TAR",
    ],
    ["a directory with content", rawTar([{ name: "d/", type: "5", content: "x" }]), "E_IMAGE_TAR"],
    [
      "a name that is not UTF-8",
      rawTar([
        { name: "x", type: "x", content: Buffer.from([...Buffer.from("11 path=a"), 0xff, 0x0a]) },
        { name: "x" },
      ]),
      "E_IMAGE_TAR",
    ],
    [
      "a component over 255 bytes",
      rawTar([{ name: "x", type: "L", content: "n".repeat(256) }, { name: "x" }]),
      "E_IMAGE_PATH",
    ],
    [
      "a damaged gzip",
      gzipSync(rawTar([{ name: "x", content: "1" }])).subarray(0, 60),
      "E_IMAGE_COMPRESSION",
    ],
  ];
  test.each(cases)("%s", async (_title, archive, code) => {
    expect(await bed.refusal(archive)).toBe(code);
  });

  test("a gzip bomb, before it has filled anything", async () => {
    const bomb = gzipSync(rawTar([{ name: "zeros", content: Buffer.alloc(200 << 20) }]));
    expect(await bed.refusal(bomb)).toBe("E_IMAGE_TAR_TOO_LARGE");
  });

  test("more bytes or more members than the limits", async () => {
    const archive = rawTar([{ name: "a", content: "x".repeat(5000) }, { name: "b" }]);
    expect(await bed.refusal(archive, { maxBytes: 4096, maxMembers: 10 })).toBe("E_IMAGE_TAR_TOO_LARGE");
    expect(await bed.refusal(archive, { maxBytes: 1 << 20, maxMembers: 1 })).toBe("E_IMAGE_TAR_TOO_LARGE");
  });

  test("any bytes, and any change of a good archive, give a tree or a coded refusal", async () => {
    const good = rawTar([
      { name: "a/", type: "5" },
      { name: "a/b", content: "hello" },
      { name: "l", type: "2", link: "a/b" },
      { name: "h", type: "1", link: "a/b" },
    ]);
    const changed = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map((changes) => {
        const bytes = Buffer.from(good);
        for (const [index, value] of changes) bytes[index] = value;
        return bytes;
      });
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 2048 }), changed), async (bytes) => {
        await bed.apply([bytes]).catch((error: unknown) => expect(error).toBeInstanceOf(KitError));
      }),
      { numRuns: 300 },
    );
  });
});
