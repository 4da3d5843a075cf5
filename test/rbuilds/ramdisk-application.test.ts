import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { crc32, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import { prepareApplicationRamdisk } from "../../rbuilds/ramdisk/application-ramdisk.ts";
import type { RamdiskEntry } from "../../rbuilds/ramdisk/read-ramdisk.ts";
import type { Manifest, ManifestEntry } from "../../wire/manifest.ts";
import { toPrintablePath } from "../../wire/newc/printable-path.ts";
import { RUNTIME } from "../../wire/runtime-layout.ts";
import {
  bytesOf,
  directory,
  hardlink,
  hasProgram,
  manifestOf,
  openRamdiskTestbed,
  type RamdiskTestbed,
  sha256,
  symlink,
} from "./ramdisk-testbed.ts";
import { codeOf } from "./rootfs-testbed.ts";

const run = promisify(execFile);
const hasCpio = await hasProgram("cpio");
const hasZstd = await hasProgram("zstd");
const isRoot = process.getuid?.() === 0;

let bed: RamdiskTestbed;
beforeAll(async () => {
  bed = await openRamdiskTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

interface Made {
  readonly bytes: Buffer;
  readonly parts: readonly Buffer[];
  readonly entries: readonly RamdiskEntry[];
}

/** The ramdisk of a manifest, read back. */
async function make(
  manifest: Manifest,
  baseManifest?: Manifest,
  cacheDir: string = bed.path("cache"),
): Promise<Made> {
  const files = await prepareApplicationRamdisk({ manifest, baseManifest, blobs: bed.bed.blobs, cacheDir });
  const parts = await Promise.all(files.map(({ path }) => readFile(path)));
  for (const [index, { sizeBytes, crc32: sum }] of files.entries()) {
    expect(sizeBytes).toBe(parts[index]?.length);
    expect(sum).toBe(crc32(parts[index] ?? ""));
  }
  const bytes = await bytesOf(files);
  return { bytes, parts, entries: await bed.read(bytes) };
}

async function pathsOf(part: Buffer | undefined): Promise<string[]> {
  return (await bed.read(part ?? Buffer.alloc(0))).map(({ path }) => path);
}

/** What a manifest says of each name, as an archive would. */
function describeManifest(manifest: Manifest): unknown[] {
  const files = new Map(manifest.entries.map((entry) => [entry.path, entry]));
  const names = new Map<string, string[]>();
  const fileOf = (entry: ManifestEntry): ManifestEntry =>
    (entry.type === "hardlink" ? files.get(entry.target) : undefined) ?? entry;
  for (const entry of manifest.entries) {
    const { path } = fileOf(entry);
    names.set(path, [...(names.get(path) ?? []), entry.path]);
  }
  return manifest.entries.map((entry) => {
    const file = fileOf(entry);
    const all = names.get(file.path) ?? [];
    const hasContent = file.type === "file" && all.at(-1) === entry.path;
    return {
      pathBytes: Buffer.from(entry.path === "/" ? "rootfs" : `rootfs${entry.path}`),
      type: file.type,
      mode: file.type === "symlink" ? 0o777 : file.mode,
      uid: file.uid,
      gid: file.gid,
      mtime: 0,
      nlink: file.type === "directory" ? 2 : all.length,
      ...(file.type === "file" ? { sha256: hasContent ? file.digest : sha256(Buffer.alloc(0)) } : {}),
      ...(file.type === "symlink" ? { linkTarget: toPrintablePath(Buffer.from(file.target)) } : {}),
      ...(file.type === "character" || file.type === "block"
        ? { rdevMajor: file.major, rdevMinor: file.minor }
        : {}),
    };
  });
}

const word = fc.oneof(
  fc.constantFrom("a", "b", "TRAILER!!!", "é", "\n", "a\nb", "\u{1f512}", " ", "-", "\t", "\\", "ﬀ"),
  fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 5 })
    .filter((text) => /^[^/\0]+$/.test(text) && !/^\.+$/.test(text)),
);
const path = fc.array(word, { minLength: 1, maxLength: 3 }).map((words) => `/${words.join("/")}`);
const id = fc.constantFrom(0, 1, 1000, 65_534, 0xff_ff_ff_fe);
const base = fc.record({ path, mode: fc.nat(0o7777), uid: id, gid: id });
type Draft = ManifestEntry | { readonly content: string; readonly entry: Omit<ManifestEntry, "type"> };
const draft: fc.Arbitrary<Draft> = fc.oneof(
  base.map((fields) => ({ ...fields, type: "directory" as const })),
  base.map((fields) => ({ ...fields, type: "fifo" as const })),
  fc.record({ fields: base, target: word }).map(({ fields, target }) => ({
    ...fields,
    type: "symlink" as const,
    target: target.replaceAll("\\", "/").replaceAll(/\p{Cc}/gu, "x"),
  })),
  fc
    .record({ fields: base, target: path })
    .map(({ fields, target }) => ({ ...fields, type: "hardlink" as const, target })),
  base.map((fields) => ({ ...fields, type: "block" as const, major: 0xfff, minor: 0xf_ff_ff })),
  fc.record({ entry: base, content: fc.string({ maxLength: 9 }) }),
);

async function treeOf(drafts: readonly Draft[]): Promise<Manifest> {
  const tree = new FileTree();
  for (const one of drafts) {
    const entry = "content" in one ? { ...(await bed.file(one.entry.path, one.content)), ...one.entry } : one;
    const isLinkable = entry.type !== "hardlink" || tree.get(entry.target)?.type === "file";
    const parents = entry.path.split("/").map((_, index, all) => all.slice(0, index + 1).join("/"));
    const isPlaced = parents
      .slice(1, -1)
      .every((parent) => (tree.get(parent)?.type ?? "directory") === "directory");
    const isDirectoryInTheWay = tree.get(entry.path) !== undefined;
    if (isLinkable && isPlaced && !isDirectoryInTheWay) tree.set(entry);
  }
  return tree.toManifest();
}

describe("the application's ramdisk", () => {
  test("any manifest comes back with the same entries, whatever its base was", async () => {
    const cacheDir = bed.path("property");
    await fc.assert(
      fc.asyncProperty(fc.array(draft, { maxLength: 12 }), fc.nat(12), async (drafts, baseCount) => {
        const manifest = await treeOf(drafts);
        const baseManifest = await treeOf(drafts.slice(0, baseCount));
        const expected = describeManifest(manifest);
        const whole = await make(manifest, undefined, cacheDir);
        expect(whole.entries).toMatchObject(expected);
        const split = await make(manifest, baseManifest, cacheDir);
        const order = (a: RamdiskEntry, b: RamdiskEntry): number => Buffer.compare(a.pathBytes, b.pathBytes);
        expect(split.entries.toSorted(order)).toMatchObject(expected);
        checkArchives(split.entries);
      }),
      { numRuns: 100 },
    );
  });

  /** What the kernel needs: parents first, inodes from 1, names of a file in one archive with its content last. */
  function checkArchives(entries: readonly RamdiskEntry[]): void {
    const seen = new Set<string>();
    const inodes = new Map<string, RamdiskEntry[]>();
    for (const entry of entries) {
      const parent = dirname(entry.pathBytes.toString("latin1"));
      if (parent !== ".") expect(seen).toContain(parent);
      seen.add(entry.pathBytes.toString("latin1"));
      const key = `${entry.archive}/${entry.inode}`;
      inodes.set(key, [...(inodes.get(key) ?? []), entry]);
    }
    expect(seen.size).toBe(entries.length);
    for (const names of inodes.values()) {
      expect(names).toHaveLength(names[0]?.type === "directory" ? 1 : (names[0]?.nlink ?? 0));
      expect(names.slice(0, -1).every(({ sizeBytes }) => sizeBytes === 0)).toBe(true);
    }
    for (const archive of new Set(entries.map((entry) => entry.archive))) {
      const numbers = new Set(entries.filter((entry) => entry.archive === archive).map(({ inode }) => inode));
      expect([...numbers]).toEqual(Array.from(numbers, (_, index) => index + 1));
    }
  }

  async function layered(): Promise<{ readonly base: Manifest; readonly image: Manifest }> {
    const base = manifestOf(
      directory("/etc"),
      await bed.file("/etc/passwd", "root"),
      await bed.file("/bin/sh", "sh"),
      hardlink("/bin/ash", "/bin/sh"),
      directory("/opt"),
    );
    const tree = FileTree.fromManifest(base);
    tree.set(await bed.file("/etc/passwd", "root and service"));
    tree.set(await bed.file("/app/main.js", "1"));
    for (const path of [
      RUNTIME.init,
      RUNTIME.node,
      RUNTIME.config,
      RUNTIME.supervisorArgv,
      RUNTIME.supervisor,
    ])
      tree.set(await bed.file(path, path));
    return { base, image: tree.toManifest() };
  }

  test("base, runtime and application are frames of their own, and everything is below rootfs", async () => {
    const { base, image } = await layered();
    const { parts, entries } = await make(image, base);
    expect(await Promise.all(parts.map(pathsOf))).toEqual([
      ["rootfs", "rootfs/bin", "rootfs/bin/ash", "rootfs/bin/sh", "rootfs/etc", "rootfs/opt"],
      [
        "rootfs/opt/enclave",
        "rootfs/opt/enclave/bin",
        "rootfs/opt/enclave/bin/node",
        "rootfs/opt/enclave/supervisor.mjs",
      ],
      [
        "rootfs/app",
        "rootfs/app/main.js",
        "rootfs/etc/passwd",
        "rootfs/opt/enclave/enclave.json",
        "rootfs/opt/enclave/supervisor.argv",
      ],
    ]);
    checkArchives(entries);
    expect(entries.every(({ path }) => path === "rootfs" || path.startsWith("rootfs/"))).toBe(true);
  });

  test("a changed application leaves the files of base and runtime untouched", async () => {
    const { base, image } = await layered();
    const cacheDir = bed.path("cache");
    const options = { baseManifest: base, blobs: bed.bed.blobs, cacheDir };
    const first = await prepareApplicationRamdisk({ ...options, manifest: image });
    const times = await Promise.all(first.map(async ({ path }) => (await stat(path)).ino));
    const tree = FileTree.fromManifest(image);
    tree.set(await bed.file("/app/main.js", "2"));
    const steps: string[] = [];
    const second = await prepareApplicationRamdisk({
      ...options,
      manifest: tree.toManifest(),
      // Nothing of the first two may be read again.
      blobs: { ...bed.bed.blobs, path: (digest) => (steps.push(digest), bed.bed.blobs.path(digest)) },
    });
    expect(second.slice(0, 2)).toEqual(first.slice(0, 2));
    expect(second[2]).not.toEqual(first[2]);
    expect(await Promise.all(second.slice(0, 2).map(async ({ path }) => (await stat(path)).ino))).toEqual(
      times.slice(0, 2),
    );
    const application = ["2", "root and service", RUNTIME.config, RUNTIME.supervisorArgv];
    expect(steps.toSorted()).toEqual(application.map((text) => sha256(Buffer.from(text))).toSorted());
  });

  test("names of one file follow the last of them, and a name of init is not lost with it", async () => {
    const base = manifestOf(await bed.file("/a", "x"), hardlink("/b", "/a"));
    const image = FileTree.fromManifest(base);
    image.set(hardlink("/c", "/a"));
    image.set(await bed.file(RUNTIME.init, "init"));
    image.set(hardlink("/copy-of-init", RUNTIME.init));
    const { parts, entries } = await make(image.toManifest(), base);
    expect(await Promise.all(parts.map(pathsOf))).toEqual(
      [
        ["rootfs"],
        ["rootfs/opt", "rootfs/opt/enclave"],
        ["rootfs/a", "rootfs/b", "rootfs/c", "rootfs/copy-of-init"],
      ].toSpliced(
        1,
        1,
        ["rootfs/opt/enclave"].flatMap((path) => [dirname(path), path]),
      ),
    );
    checkArchives(entries);
    expect(entries.find(({ path }) => path.endsWith("init"))).toMatchObject({
      nlink: 1,
      sha256: sha256(Buffer.from("init")),
    });
  });

  test("the frames are what zstd takes, with checksum and content size", async () => {
    const { parts } = await make((await layered()).image);
    for (const part of parts) {
      // The descriptor: a checksum; a single segment or a size of content.
      expect((part[4] ?? 0) & 0b100).toBe(0b100);
      expect((part[4] ?? 0) & 0b1110_0000).toBeGreaterThan(0);
      expect(zstdDecompressSync(part).subarray(0, 6).toString()).toBe("070701");
    }
  });

  test("for a kernel without zstd the same archives are written as they are", async () => {
    const { base, image } = await layered();
    const options = {
      manifest: image,
      baseManifest: base,
      blobs: bed.bed.blobs,
      cacheDir: bed.path("cache"),
    };
    const [packed, plain] = [
      await prepareApplicationRamdisk(options),
      await prepareApplicationRamdisk({ ...options, compression: "none" }),
    ];
    const frames = await Promise.all(packed.map(({ path }) => readFile(path)));
    expect(await bytesOf(plain)).toEqual(Buffer.concat(frames.map((frame) => zstdDecompressSync(frame))));
    expect(plain.every(({ sizeBytes }) => sizeBytes % 4 === 0)).toBe(true);
    expect(plain.map(({ crc32: sum }) => sum)).toEqual(
      frames.map((frame) => crc32(zstdDecompressSync(frame))),
    );
    expect(await bed.read(await bytesOf(plain))).toEqual(await bed.read(Buffer.concat(frames)));
  });

  test.skipIf(!hasZstd)("the system's zstd gives the archives back [needs zstd]", async () => {
    const { parts } = await make((await layered()).image);
    for (const part of parts) expect(await pipe("zstd", ["-dcq"], part)).toEqual(zstdDecompressSync(part));
  });
});

async function pipe(
  program: string,
  args: readonly string[],
  input: Uint8Array,
  cwd?: string,
): Promise<Buffer> {
  const child = spawn(program, args, { cwd, stdio: ["pipe", "pipe", "inherit"] });
  const output = buffer(child.stdout);
  child.stdin.end(input);
  const [status] = await once(child, "close");
  expect(status).toBe(0);
  return await output;
}

describe("GNU cpio [needs cpio]", () => {
  const sample = async (): Promise<Manifest> =>
    manifestOf(
      directory("/dir", 0o1777),
      await bed.file("/dir/first", "content", 0o4755),
      hardlink("/dir/last", "/dir/first"),
      await bed.file("/dir/empty", ""),
      hardlink("/dir/empty2", "/dir/empty"),
      await bed.file("/with\nnewline é", "x"),
      symlink("/link", "dir/../dir/last"),
      { type: "fifo", path: "/fifo", mode: 0o600, uid: 3, gid: 4 },
      { type: "character", path: "/null", mode: 0o666, uid: 0, gid: 0, major: 1, minor: 3 },
      { ...(await bed.file("/owned", "y")), uid: 1234, gid: 70_000 },
    );

  test.skipIf(!hasCpio)("lists the same names, owners and modes", async () => {
    const { bytes } = await make(await sample());
    const listing = await pipe("cpio", ["-itv", "--quiet", "--numeric-uid-gid"], zstdDecompressSync(bytes));
    const lines = listing
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => line.replaceAll(/ +/g, " "));
    expect(lines).toEqual([
      expect.stringMatching(/^drwxr-xr-x 2 0 0 0 Jan 1 1970 rootfs$/),
      expect.stringMatching(/^drwxrwxrwt 2 0 0 .* rootfs\/dir$/),
      expect.stringMatching(/^-rw-r--r-- 2 0 0 0 .* rootfs\/dir\/empty$/),
      expect.stringMatching(/^-rw-r--r-- 2 0 0 0 .* rootfs\/dir\/empty2$/),
      expect.stringMatching(/^-rwsr-xr-x 2 0 0 0 .* rootfs\/dir\/first$/),
      expect.stringMatching(/^-rwsr-xr-x 2 0 0 7 .* rootfs\/dir\/last$/),
      expect.stringMatching(/^prw------- 1 3 4 0 .* rootfs\/fifo$/),
      expect.stringMatching(/^lrwxrwxrwx 1 0 0 15 .* rootfs\/link -> dir\/..\/dir\/last$/),
      expect.stringMatching(/^crw-rw-rw- 1 0 0 1, 3 .* rootfs\/null$/),
      expect.stringMatching(/^-rw-r--r-- 1 1234 70000 1 .* rootfs\/owned$/),
      expect.stringMatching(/ rootfs\/with$/),
      "newline é",
    ]);
  });

  test.skipIf(!hasCpio || !isRoot)("unpacks the same files, with hard links and owners", async () => {
    const { bytes } = await make(await sample());
    const root = bed.path("unpacked");
    await mkdir(root);
    await pipe("cpio", ["-id", "--quiet"], zstdDecompressSync(bytes), root);
    const at = (name: string): string => join(root, "rootfs", name);
    expect(await readFile(at("dir/first"), "utf8")).toBe("content");
    const [first, last, empty, empty2, owned] = await Promise.all(
      ["dir/first", "dir/last", "dir/empty", "dir/empty2", "owned"].map((name) => stat(at(name))),
    );
    expect(first).toMatchObject({ ino: last?.ino, nlink: 2, mode: 0o104755 });
    expect(empty).toMatchObject({ ino: empty2?.ino, size: 0 });
    expect(owned).toMatchObject({ uid: 1234, gid: 70_000 });
    expect((await lstat(at("null"))).rdev).toBe(0x103);
    expect((await stat(at("dir"))).mode & 0o7777).toBe(0o1777);
    expect(await readlink(at("link"))).toBe("dir/../dir/last");
    expect(await readFile(at("with\nnewline é"), "utf8")).toBe("x");
  });
});

describe("the same manifest has the same bytes", () => {
  /** Larger than a piece and with odd sizes, so that pieces end inside of files. */
  async function large(): Promise<Manifest> {
    const noise = Buffer.alloc(700_001);
    for (let index = 0, state = 1; index < noise.length; index += 1) {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      noise[index] = state >> 16;
    }
    const files = [1, 255_999, 256 * 1024, 0, 262_143, 700_001, 3, 700_000, 699_999].map(
      async (size, index) => bed.file(`/f${index}`, noise.subarray(0, size)),
    );
    return manifestOf(...(await Promise.all(files)));
  }

  test("cold or warm, in another cache, another umask, blobs stored in another order", async () => {
    const manifest = await large();
    const expected = await make(manifest);
    const cacheDir = bed.path("cache");
    expect((await make(manifest, undefined, cacheDir)).bytes).toEqual(expected.bytes);
    expect((await make(manifest, undefined, cacheDir)).bytes).toEqual(expected.bytes);
    const other = await openBlobStore(bed.path("other-blobs"));
    for (const entry of manifest.entries.toReversed()) {
      if (entry.type === "file") await other.putFile(bed.bed.blobs.path(entry.digest));
    }
    const files = await prepareApplicationRamdisk({
      manifest: FileTree.fromManifest(manifest).toManifest(),
      baseManifest: undefined,
      blobs: other,
      cacheDir: bed.path("cache"),
    });
    expect(await bytesOf(files)).toEqual(expected.bytes);
  });

  test("made by another process with umask 077, another zone and language", async () => {
    const manifest = await large();
    const expected = await make(manifest);
    const script = fileURLToPath(new URL("../fixtures/rbuilds/make-ramdisk.ts", import.meta.url));
    const manifestPath = bed.path("manifest.json");
    await writeFile(manifestPath, JSON.stringify(manifest));
    const { stdout } = await run(
      "/bin/sh",
      [
        "-c",
        'umask 077; exec "$0" "$@"',
        process.execPath,
        script,
        manifestPath,
        bed.bed.path("blobs"),
        bed.path("cache"),
      ],
      { env: { TZ: "Pacific/Kiritimati", LANG: "tr_TR.UTF-8", PATH: "/nowhere" } },
    );
    const digests: unknown = JSON.parse(stdout);
    expect(digests).toEqual(expected.parts.map(sha256));
  });

  test("made by eight at once into one cache, which holds each part once and nothing else", async () => {
    const manifest = await large();
    const cacheDir = bed.path("cache");
    const made = await Promise.all(Array.from({ length: 8 }, () => make(manifest, undefined, cacheDir)));
    for (const { bytes } of made) expect(bytes).toEqual(made[0]?.bytes);
    expect(
      (await readdir(join(cacheDir, "ramdisks"))).map((name) => name.replace(/^[0-9a-f]{64}/, "")),
    ).toEqual([".cpio.zst", ".json"]);
  });

  test("does not depend on where it lies in the memory of its maker: two runs over other manifests between", async () => {
    const one = await make(await large());
    await make(manifestOf(await bed.file("/x", "y".repeat(300_000))));
    expect((await make(await large())).bytes).toEqual(one.bytes);
  });
});

describe("the cache", () => {
  async function cached(): Promise<{
    readonly cacheDir: string;
    readonly manifest: Manifest;
    readonly frame: string;
    readonly record: string;
    readonly bytes: Buffer;
  }> {
    const manifest = manifestOf(await bed.file("/a", "content"));
    const cacheDir = bed.path("cache");
    const { bytes } = await make(manifest, undefined, cacheDir);
    const [frame = "", record = ""] = (await readdir(join(cacheDir, "ramdisks"))).map((name) =>
      join(cacheDir, "ramdisks", name),
    );
    return { cacheDir, manifest, frame, record, bytes };
  }

  test.each<[string, (files: { readonly frame: string; readonly record: string }) => Promise<void>]>([
    ["a frame is gone", ({ frame }) => rm(frame)],
    ["a frame was cut off", ({ frame }) => truncate(frame, 10)],
    ["a frame is longer", ({ frame }) => writeFile(frame, "x".repeat(10_000))],
    ["a record is gone", ({ record }) => rm(record)],
    ["a record is empty", ({ record }) => truncate(record, 0)],
    ["a record is another JSON", ({ record }) => writeFile(record, "[1]")],
    ["a record lacks a key", ({ record }) => writeFile(record, '{"sizeBytes":1,"crc32":1}')],
    [
      "a record holds a negative number",
      ({ record }) =>
        writeFile(record, `{"crc32":-1,"sha256":"${"a".repeat(64)}","sizeBytes":1,"unpackedBytes":1}`),
    ],
    ["a record is huge", ({ record }) => writeFile(record, `{"a":"${"x".repeat(100_000)}"}`)],
  ])("is made again where %s", async (_title, damage) => {
    const { cacheDir, manifest, frame, record, bytes } = await cached();
    const text = await readFile(record, "utf8");
    await damage({ frame, record });
    expect((await make(manifest, undefined, cacheDir)).bytes).toEqual(bytes);
    expect(await readFile(record, "utf8")).toBe(text);
    expect((await stat(frame)).mode & 0o777).toBe(0o644 & ~process.umask());
  });

  test("a maker that was killed leaves nothing that is taken for a frame", async () => {
    const { cacheDir, manifest, frame, record, bytes } = await cached();
    await rm(record);
    // As far as it came: a temporary file, or the frame without its record.
    await writeFile(`${frame}.0123456789ab.tmp`, "half");
    await writeFile(frame, "half");
    expect((await make(manifest, undefined, cacheDir)).bytes).toEqual(bytes);
  });

  test("a lost, cut or changed blob is refused and nothing is left behind", async () => {
    const changes: ((path: string) => Promise<void>)[] = [
      (path) => rm(path),
      async (path) => truncate(path, 3),
      async (path) => writeFile(path, "tampered"),
    ];
    for (const [index, change] of changes.entries()) {
      const entry = await bed.file("/a", `original${index}`);
      const blob = bed.bed.blobs.path(entry.type === "file" ? entry.digest : "");
      await chmod(blob, 0o644);
      await change(blob);
      const cacheDir = bed.path("cache");
      expect(await codeOf(make(manifestOf(entry), undefined, cacheDir))).toBe("E_IMAGE_BLOB_MISSING");
      expect(await readdir(join(cacheDir, "ramdisks"))).toEqual([]);
    }
  });

  test("cancelled in the middle, it ends and leaves nothing behind", async () => {
    const manifest = manifestOf(
      await bed.file("/a", Buffer.alloc(4_000_000, "abc")),
      await bed.file("/b", "x"),
    );
    const cacheDir = bed.path("cache");
    const abort = new AbortController();
    const blobs = { ...bed.bed.blobs, path: (digest: string) => (abort.abort(), bed.bed.blobs.path(digest)) };
    const making = prepareApplicationRamdisk({
      manifest,
      baseManifest: undefined,
      blobs,
      cacheDir,
      signal: abort.signal,
    });
    await expect(making).rejects.toThrow(/abort/i);
    expect(await readdir(join(cacheDir, "ramdisks"))).toEqual([]);
  });
});

describe("what a ramdisk cannot say is refused before anything is read", () => {
  const nothing = {
    type: "file",
    path: "/big",
    mode: 0o644,
    uid: 0,
    gid: 0,
    digest: "ab".repeat(32),
  } as const;
  const refusal = async (...entries: readonly ManifestEntry[]): Promise<unknown> => {
    const cacheDir = bed.path("cache");
    const work = prepareApplicationRamdisk({
      manifest: manifestOf(...entries),
      baseManifest: undefined,
      blobs: bed.bed.blobs,
      cacheDir,
    });
    const error: unknown = await work.then(
      () => "accepted",
      (error: unknown) => error,
    );
    await expect(readdir(cacheDir)).rejects.toMatchObject({ code: "ENOENT" });
    return error;
  };

  test("a file of 6 GiB, named with its size, also by another name", async () => {
    const big = { ...nothing, size: 6 * 1024 ** 3 };
    expect(await refusal(big)).toMatchObject({
      code: "E_RAMDISK_FILE_TOO_LARGE",
      message: expect.stringMatching(/"\/big" has 6442450944 bytes/),
    });
    expect(await refusal(big, hardlink("/name", "/big"))).toMatchObject({ code: "E_RAMDISK_FILE_TOO_LARGE" });
    expect(await refusal({ ...nothing, size: 2 ** 32 })).toMatchObject({ code: "E_RAMDISK_FILE_TOO_LARGE" });
  });

  test("an extended attribute, with what can be done", async () => {
    const entry = { ...nothing, size: 1, xattrs: { "security.capability": "AQ==" } };
    expect(await refusal(entry)).toMatchObject({
      code: "E_RAMDISK_XATTR",
      message: expect.stringMatching(/"\/big" .* security\.capability/),
      hint: expect.stringContaining("cap_add"),
    });
  });

  test("a path that is too long with its prefix, and one that is no Unicode", async () => {
    const long = `/${Array.from({ length: 16 }, () => "x".repeat(254)).join("/")}`;
    expect(Buffer.byteLength(long)).toBe(4080);
    const [short, tooLong] = ["y".repeat(8), "y".repeat(9)].map((name) => directory(`${long}/${name}`));
    if (short === undefined || tooLong === undefined) throw new Error("two are made");
    expect((await make(manifestOf(short))).entries.at(-1)?.pathBytes).toHaveLength(4095);
    expect(await refusal(tooLong)).toMatchObject({
      code: "E_RAMDISK_PATH",
      message: expect.stringContaining("4096 bytes"),
    });
    expect(await refusal(directory("/\ud800"))).toMatchObject({ code: "E_RAMDISK_PATH" });
    expect(await refusal(symlink("/a", "\ud800"))).toMatchObject({ code: "E_RAMDISK_PATH" });
  });

  test("a hard link to nothing", async () => {
    expect(await refusal(hardlink("/a", "/b"))).toMatchObject({ code: "E_IMAGE_MANIFEST" });
  });
});

test("300,000 files take a bounded amount of memory to write and to read", { timeout: 300_000 }, async () => {
  const script = fileURLToPath(new URL("../fixtures/rbuilds/large-ramdisk.ts", import.meta.url));
  const { stdout } = await run(process.execPath, [script, bed.path("large")]);
  const result: unknown = JSON.parse(stdout);
  expect(result).toMatchObject({ entries: 300_002 });
  const { extraBytes } = result as { extraBytes: number };
  expect(extraBytes).toBeLessThan(200 * 1024 * 1024);
});
