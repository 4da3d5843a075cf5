import { mkdir, readdir, readlink, writeFile } from "node:fs/promises";
import { createReadStream } from "node:fs";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import { decodeManifest, encodeManifest } from "../../rbuilds/manifest-file.ts";
import { applyTarLayer, DEFAULT_LAYER_LIMITS } from "../../rbuilds/tar-layer.ts";
import {
  chunksOf,
  codeOf,
  openRootfsTestbed,
  paxRecord,
  rawTar,
  run,
  type RootfsTestbed,
} from "./rootfs-testbed.ts";

const isRoot = process.getuid?.() === 0;
let bed: RootfsTestbed;
beforeAll(async () => {
  bed = await openRootfsTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

/** The member `x` after an extension header of this type. */
const extended = (type: string, content: string): Buffer =>
  rawTar([
    { name: "header", type, content },
    { name: "x", content: "hello" },
  ]);

describe("what readers of tar take differently is refused", () => {
  test.each([
    [
      "two pax headers before one member",
      rawTar([
        { name: "h", type: "x", content: paxRecord("path", "one") },
        { name: "h", type: "x", content: paxRecord("uid", "5") },
        { name: "x" },
      ]),
    ],
    [
      "two long names before one member",
      rawTar([
        { name: "h", type: "L", content: "one" },
        { name: "h", type: "L", content: "two" },
        { name: "x" },
      ]),
    ],
    ["a name of all members", extended("g", paxRecord("path", "y"))],
    ["a size of all members", extended("g", paxRecord("size", "1"))],
    ["a link name of all members", extended("g", paxRecord("linkpath", "y"))],
    [
      "members after one block of zeros",
      Buffer.concat([rawTar([{ name: "x" }], false), Buffer.alloc(512), rawTar([{ name: "y" }])]),
    ],
    ["a sparse file, version 0.0", extended("x", paxRecord("GNU.sparse.size", "5"))],
    ["a sparse file, version 0.1", extended("x", paxRecord("GNU.sparse.map", "0,5"))],
    ["a sparse file, version 1.0", extended("x", paxRecord("GNU.sparse.major", "1"))],
    ["a sparse file of the old GNU format", rawTar([{ name: "x", type: "S" }])],
    ["an owner beyond 32 bits", extended("x", paxRecord("uid", "4294967296"))],
    ["the owner that means nobody has said", extended("x", paxRecord("gid", "4294967295"))],
    ["a name of an attribute with a space", extended("x", paxRecord("SCHILY.xattr.user.a b", "1"))],
    ["a pax header cut off in its records", extended("x", "30 path=x\n")],
    [
      "more global records than are kept",
      extended(
        "g",
        Array.from({ length: 65 }, (_, index) => paxRecord(`SCHILY.xattr.user.${index}`, "")).join(""),
      ),
    ],
  ])("%s", async (_title, archive) => {
    expect(await bed.refusal(archive)).toBe("E_IMAGE_TAR");
  });

  test("a symbolic link that the kernel would not make", async () => {
    const long = paxRecord("linkpath", "a/".repeat(2048));
    const archive = rawTar([
      { name: "h", type: "x", content: long },
      { name: "x", type: "2" },
    ]);
    expect(await bed.refusal(archive)).toBe("E_IMAGE_PATH");
    expect(await bed.refusal(rawTar([{ name: "x", type: "2", link: "" }]))).toBe("E_IMAGE_TAR_NAME");
  });
});

describe("what has one meaning is taken", () => {
  test("directories of archives from before POSIX, by the slash of their name", async () => {
    const tree = await bed.apply([rawTar([{ name: "d/" }, { name: "d/x", content: "1" }])]);
    expect(tree.get("/d")?.type).toBe("directory");
    expect(tree.get("/d/x")?.type).toBe("file");
  });

  test("global headers about owners and headers that mean nothing here, however many", async () => {
    const noise = Array.from({ length: 200 }, (_, index) => ({
      name: "h",
      type: "g",
      content: paxRecord(`comment.${index}`, "c".repeat(500)),
    }));
    const archive = rawTar([
      ...noise,
      { name: "h", type: "g", content: paxRecord("uid", "7") },
      { name: "x" },
    ]);
    expect((await bed.apply([archive])).get("/x")).toMatchObject({ uid: 7 });
  });

  test("an archive without its blocks of zeros", async () => {
    expect((await bed.apply([rawTar([{ name: "x" }], false)])).get("/x")?.type).toBe("file");
  });
});

describe("GNU tar as the oracle", () => {
  test.skipIf(!isRoot).each(["ustar", "pax", "gnu"])(
    "every name, type, mode, owner and device of --format=%s (needs root to make them)",
    async (format) => {
      const source = bed.path(`oracle-${format}`);
      await mkdir(`${source}/${"d".repeat(60)}/${"e".repeat(60)}`, { recursive: true });
      await writeFile(`${source}/${"d".repeat(60)}/${"e".repeat(60)}/file`, "in the prefix");
      await writeFile(`${source}/setuid`, "s", { mode: 0o755 });
      await run("sh", [
        "-c",
        `cd "$0" && mkdir -m 1777 tmp && mkfifo -m 600 pipe && mknod null c 1 3 && mknod loop b 7 200 &&
         ln -s ../outside link && ln setuid second && chown 0:12 tmp && chown 100:2000000 setuid &&
         chown -h 5:6 link && chmod 6755 setuid && chown 65534:65534 null`,
        source,
      ]);
      const archive = bed.path(`oracle-${format}.tar`);
      await run("tar", ["-C", source, `--format=${format}`, "-cf", archive, "."]);
      const ours = (await bed.apply([archive])).entries().map((entry) => {
        const kind = {
          directory: "d",
          file: "f",
          hardlink: "f",
          symlink: "l",
          fifo: "p",
          character: "c",
          block: "b",
        };
        const mode = entry.type === "symlink" ? "777" : entry.mode.toString(8);
        return `${entry.path} ${kind[entry.type]} ${mode} ${entry.uid}:${entry.gid}`;
      });
      await mkdir(`${source}-out`);
      await run("tar", ["-C", `${source}-out`, "--same-owner", "--numeric-owner", "-xpf", archive]);
      const { stdout } = await run("find", [`${source}-out`, "-printf", "/%P %y %m %U:%G\\n"]);
      expect(ours.sort()).toEqual(stdout.trimEnd().split("\n").sort());
      expect(ours).toContain("/setuid f 6755 100:2000000");
    },
  );

  test("extended attributes: user.* and capabilities stay, others go", async () => {
    const records = [
      paxRecord("SCHILY.xattr.user.colour", "blue"),
      paxRecord("SCHILY.xattr.security.capability", "\u0001"),
      paxRecord("SCHILY.xattr.security.selinux", "label"),
      paxRecord("SCHILY.xattr.trusted.overlay.opaque", "y"),
    ];
    const tree = await bed.apply([extended("x", records.join(""))]);
    expect(tree.get("/x")?.xattrs).toEqual({ "user.colour": "Ymx1ZQ==", "security.capability": "AQ==" });
    const manifest = tree.toManifest();
    expect(decodeManifest(encodeManifest(manifest))).toEqual(manifest);
  });

  test("extended attributes as --xattrs writes them, where the file system has them", async ({ skip }) => {
    const source = bed.path("attributes");
    await mkdir(source);
    await writeFile(`${source}/x`, "");
    const set = "import os, sys; os.setxattr(sys.argv[1], 'user.colour', bytes([0, 255, 10]))";
    await run("python3", ["-c", set, `${source}/x`]).catch(() =>
      skip("no python3, or no user.* attributes here"),
    );
    await run("tar", ["-C", source, "--xattrs", "-cf", bed.path("attributes.tar"), "."]);
    expect((await bed.apply([bed.path("attributes.tar")])).get("/x")?.xattrs).toEqual({
      "user.colour": "AP8K",
    });
  });
});

describe("whoever stops reading an archive", () => {
  const openHere = async (): Promise<string[]> => {
    const names = await readdir("/proc/self/fd");
    const targets = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")));
    return targets.filter((target) => target.startsWith(bed.directory));
  };

  test.each([
    ["plain", (bytes: Buffer) => bytes],
    ["gzip", gzipSync],
  ])("leaves no file open after a refusal (%s)", async (form, encode) => {
    const path = bed.path(`refused-${form}`);
    const archive = Buffer.concat([rawTar([{ name: "../x" }], false), Buffer.from(noise(300_000))]);
    await writeFile(path, encode(archive));
    const options = { blobs: bed.blobs, whiteouts: true, limits: DEFAULT_LAYER_LIMITS, source: "archive" };
    for (let round = 0; round < 5; round += 1) {
      const applied = applyTarLayer(createReadStream(path), { ...options, tree: new FileTree() });
      expect(await codeOf(applied)).toBe("E_IMAGE_TAR_NAME");
    }
    await expect.poll(openHere).toEqual([]);
  });

  test("hears of the cancellation, not of an archive cut off", async () => {
    const controller = new AbortController();
    const archive = rawTar([{ name: "x", content: "x".repeat(100_000) }]);
    async function* cutOff(): AsyncGenerator<Uint8Array> {
      yield* chunksOf(archive.subarray(0, 2000));
      controller.abort();
    }
    const { signal } = controller;
    const options = {
      blobs: bed.blobs,
      whiteouts: true,
      limits: DEFAULT_LAYER_LIMITS,
      source: "archive",
      signal,
    };
    await expect(applyTarLayer(cutOff(), { ...options, tree: new FileTree() })).rejects.toThrow(
      expect.objectContaining({ name: "AbortError" }),
    );
    const left = await readdir(bed.path("blobs", "sha256"));
    expect(left.filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

test("whatever layers make of a tree with linked files, its manifest can be read again", async () => {
  const lower = rawTar([
    { name: "a", content: "first" },
    { name: "d/", type: "5" },
    { name: "d/e", content: "second" },
    { name: "b", type: "1", link: "a" },
    { name: "d/f", type: "1", link: "a" },
    { name: "l", type: "2", link: "d" },
  ]);
  const member = fc.record({
    name: fc.constantFrom(
      "a",
      "b",
      "d",
      "d/e",
      "d/f",
      "l/f",
      ".wh.a",
      ".wh.b",
      ".wh.d",
      "d/.wh..wh..opq",
      "a/c",
    ),
    type: fc.constantFrom("0", "0", "1", "1", "2", "3", "5"),
    link: fc.constantFrom("a", "b", "d/e", "d/f", "l/e"),
    mode: fc.nat(0o7777),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(member, { minLength: 1, maxLength: 3 }), { maxLength: 4 }),
      async (layers) => {
        const tree = new FileTree();
        for (const archive of [lower, ...layers.map((members) => rawTar(members))]) {
          const options = {
            tree,
            blobs: bed.blobs,
            whiteouts: true,
            limits: DEFAULT_LAYER_LIMITS,
            source: "archive",
          };
          await applyTarLayer(chunksOf(archive), options).catch((error: unknown) => {
            expect(error).toBeInstanceOf(KitError);
          });
          const manifest = tree.toManifest();
          expect(decodeManifest(encodeManifest(manifest))).toEqual(manifest);
        }
      },
    ),
    { numRuns: 300 },
  );
});

/** Bytes that do not compress, the same in every run. */
function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = 1;
  for (let index = 0; index < length; index += 1) {
    state = (state * 48_271) % 2_147_483_647;
    bytes[index] = state & 0xff;
  }
  return bytes;
}
