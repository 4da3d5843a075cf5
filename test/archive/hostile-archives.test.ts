import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { PassThrough } from "node:stream";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { DEFAULT_ARCHIVE_LIMITS } from "../../archive/archive-limits.ts";
import { unpackArchive } from "../../archive/unpack-archive.ts";
import { KitError } from "../../core/errors.ts";
import { encodePaxRecords } from "../../wire/tar/pax-records.ts";
import { encodeTarMember } from "../../wire/tar/tar-header-encoder.ts";
import { paxRecord, rawTar, type RawMember } from "../rbuilds/rootfs-testbed.ts";
import { openArchiveBed, packToBytes, refusalOf, unpackBytes } from "./archive-bed.ts";

/** With the checksum of its header made right again after `change`. */
function patched(member: RawMember, change: (header: Buffer) => void): Buffer {
  const archive = rawTar([member]);
  change(archive);
  archive.write("        ", 148);
  const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return archive;
}

const inDirectory = (...members: RawMember[]): Buffer => rawTar([{ name: "top/", type: "5" }, ...members]);
const extended = (type: string, content: string | Uint8Array): Buffer =>
  rawTar([
    { name: "h", type, content },
    { name: "top", content: "hello" },
  ]);
const deep = `${"d/".repeat(300)}f`;

const REFUSED: readonly (readonly [string, Uint8Array, string])[] = [
  ["an absolute name", rawTar([{ name: "/etc/evil", content: "x" }]), "E_ARCHIVE_ENTRY"],
  ["a name that leads upwards", rawTar([{ name: "../evil", content: "x" }]), "E_ARCHIVE_ENTRY"],
  ["only the way upwards", rawTar([{ name: "..", type: "5" }]), "E_ARCHIVE_ENTRY"],
  ["no name", rawTar([{ name: "", content: "x" }]), "E_ARCHIVE_ENTRY"],
  ["the name of the directory itself", rawTar([{ name: "./", type: "5" }]), "E_ARCHIVE_ENTRY"],
  ["a way upwards below the top", inDirectory({ name: "top/../../evil", content: "x" }), "E_ARCHIVE_ENTRY"],
  ["a name with a NUL", extended("x", paxRecord("path", "top\0evil")), "E_ARCHIVE_ENTRY"],
  [
    "a name that is not UTF-8",
    patched({ name: "xx" }, (header) => header.fill(0xff, 0, 2)),
    "E_ARCHIVE_FORMAT",
  ],
  ["two entries at the top", rawTar([{ name: "top" }, { name: "evil" }]), "E_ARCHIVE_ENTRY"],
  ["the top twice", rawTar([{ name: "top" }, { name: "top" }]), "E_ARCHIVE_ENTRY"],
  ["a top directory twice", inDirectory({ name: "top/", type: "5" }), "E_ARCHIVE_ENTRY"],
  ["an entry beside the top directory", inDirectory({ name: "evil", content: "x" }), "E_ARCHIVE_ENTRY"],
  ["an entry whose directory is not there", rawTar([{ name: "top/evil" }]), "E_ARCHIVE_ENTRY"],
  ["the same further down", inDirectory({ name: "top/d/evil" }), "E_ARCHIVE_ENTRY"],
  ["an entry below a file", rawTar([{ name: "top" }, { name: "top/evil" }]), "E_ARCHIVE_ENTRY"],
  [
    "a file through a link of the archive",
    inDirectory({ name: "top/l", type: "2", link: "../.." }, { name: "top/l/evil", content: "x" }),
    "E_ARCHIVE_ENTRY",
  ],
  [
    "a file through a link at the top",
    rawTar([
      { name: "top", type: "2", link: "existing" },
      { name: "top/evil", content: "x" },
    ]),
    "E_ARCHIVE_ENTRY",
  ],
  [
    "a directory in the place of a link",
    inDirectory({ name: "top/l", type: "2", link: "../.." }, { name: "top/l/", type: "5" }),
    "E_ARCHIVE_DESTINATION",
  ],
  [
    "a file in the place of a directory",
    inDirectory({ name: "top/d", type: "5" }, { name: "top/d", content: "x" }),
    "E_ARCHIVE_DESTINATION",
  ],
  ["a hard link outside", inDirectory({ name: "top/l", type: "1", link: "existing/f" }), "E_ARCHIVE_ENTRY"],
  [
    "a hard link upwards",
    inDirectory({ name: "top/l", type: "1", link: "top/../outside" }),
    "E_ARCHIVE_ENTRY",
  ],
  [
    "an absolute hard link",
    inDirectory({ name: "top/l", type: "1", link: "/etc/passwd" }),
    "E_ARCHIVE_ENTRY",
  ],
  ["a hard link to nothing", inDirectory({ name: "top/l", type: "1", link: "top/no" }), "E_ARCHIVE_ENTRY"],
  ["a hard link to a directory", inDirectory({ name: "top/l", type: "1", link: "top" }), "E_ARCHIVE_ENTRY"],
  ["a hard link at the top", rawTar([{ name: "top", type: "1", link: "outside" }]), "E_ARCHIVE_ENTRY"],
  [
    "a hard link to a symbolic one",
    inDirectory(
      { name: "top/s", type: "2", link: "../outside" },
      { name: "top/l", type: "1", link: "top/s" },
    ),
    "E_ARCHIVE_ENTRY",
  ],
  [
    "a hard link through a symbolic one",
    inDirectory(
      { name: "top/s", type: "2", link: ".." },
      { name: "top/l", type: "1", link: "top/s/outside" },
    ),
    "E_ARCHIVE_ENTRY",
  ],
  ["a character device", rawTar([{ name: "top", type: "3" }]), "E_ARCHIVE_ENTRY"],
  ["a block device below", inDirectory({ name: "top/b", type: "4" }), "E_ARCHIVE_ENTRY"],
  ["a named pipe", inDirectory({ name: "top/p", type: "6" }), "E_ARCHIVE_ENTRY"],
  ["a type that nobody knows", rawTar([{ name: "top", type: "Z" }]), "E_ARCHIVE_FORMAT"],
  ["a sparse file", extended("x", paxRecord("GNU.sparse.major", "1")), "E_ARCHIVE_FORMAT"],
  ["a link to nowhere at all", rawTar([{ name: "top", type: "2", link: "" }]), "E_ARCHIVE_ENTRY"],
  [
    "a link longer than a path",
    rawTar([
      { name: "h", type: "x", content: paxRecord("linkpath", "a/".repeat(2048)) },
      { name: "top", type: "2" },
    ]),
    "E_ARCHIVE_ENTRY",
  ],
  [
    "a size that the bytes do not bear out",
    rawTar([{ name: "top", content: "x", size: 99_999 }]),
    "E_ARCHIVE_FORMAT",
  ],
  ["a size of 8 EiB", extended("x", paxRecord("size", "9223372036854775807")), "E_ARCHIVE_FORMAT"],
  [
    "a size of all base-256 digits",
    patched({ name: "top" }, (header) => header.fill(0xff, 125, 136).fill(0x80, 124, 125)),
    "E_ARCHIVE_FORMAT",
  ],
  [
    "a negative size in base 256",
    patched({ name: "top" }, (header) => header.fill(0xff, 124, 136)),
    "E_ARCHIVE_FORMAT",
  ],
  ["a negative size in pax", extended("x", paxRecord("size", "-1")), "E_ARCHIVE_FORMAT"],
  [
    "a size in letters",
    patched({ name: "top" }, (header) => header.write("zzzzzzzzzzz", 124)),
    "E_ARCHIVE_FORMAT",
  ],
  [
    "a time in letters",
    patched({ name: "top" }, (header) => header.write("zzzzzzzzzzz", 136)),
    "E_ARCHIVE_FORMAT",
  ],
  ["a time of no calendar", extended("x", paxRecord("mtime", "9".repeat(16))), "E_ARCHIVE_FORMAT"],
  ["an owner beyond 32 bits", extended("x", paxRecord("uid", "4294967296")), "E_ARCHIVE_FORMAT"],
  ["a wrong checksum", rawTar([{ name: "top", badChecksum: true }]), "E_ARCHIVE_FORMAT"],
  ["a pax header of many megabytes", extended("x", Buffer.alloc(3_000_000, "1")), "E_ARCHIVE_FORMAT"],
  [
    "a pax header of many records",
    extended("x", Array.from({ length: 2000 }, (_, index) => paxRecord(`k${index}`, "")).join("")),
    "E_ARCHIVE_FORMAT",
  ],
  ["a long name of many megabytes", extended("L", Buffer.alloc(3_000_000, "n")), "E_ARCHIVE_FORMAT"],
  [
    "two long names",
    Buffer.concat([extended("L", "one").subarray(0, 1024), extended("L", "two")]),
    "E_ARCHIVE_FORMAT",
  ],
  ["a name longer than a path", extended("x", paxRecord("path", `${"n/".repeat(3000)}n`)), "E_ARCHIVE_LIMIT"],
  ["a part of a name longer than the kernel takes", extended("L", "n".repeat(256)), "E_ARCHIVE_ENTRY"],
  ["a name below hundreds of directories", extended("L", deep), "E_ARCHIVE_LIMIT"],
  ["nothing but its end", Buffer.alloc(1024), "E_ARCHIVE_FORMAT"],
  ["not a byte", Buffer.alloc(0), "E_ARCHIVE_FORMAT"],
  ["text", Buffer.from("no such file or directory\n".repeat(100)), "E_ARCHIVE_FORMAT"],
  ["bytes after its end", Buffer.concat([rawTar([{ name: "top" }]), Buffer.from("x")]), "E_ARCHIVE_FORMAT"],
  [
    "another archive after its end",
    Buffer.concat([rawTar([{ name: "top" }]), rawTar([{ name: "b" }])]),
    "E_ARCHIVE_FORMAT",
  ],
  [
    "zeros without end",
    Buffer.concat([rawTar([{ name: "top" }]), Buffer.alloc(2_000_000)]),
    "E_ARCHIVE_FORMAT",
  ],
  [
    "one block of zeros between entries",
    Buffer.concat([rawTar([{ name: "top" }], false), Buffer.alloc(512), rawTar([{ name: "b" }])]),
    "E_ARCHIVE_FORMAT",
  ],
];

describe("an archive is refused, and nothing of it is left, that has", () => {
  test.each(REFUSED)("%s", async (_title, archive, code) => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("in/existing"), { recursive: true });
    await writeFile(bed.path("in/existing/f"), "old");
    await writeFile(bed.path("outside"), "old");
    const refusal = await refusalOf(unpackBytes(archive, bed.path("in")));
    expect(refusal.code).toBe(code);
    expect(await readdir(bed.path("in"))).toEqual(["existing"]);
    expect(await readdir(bed.path("in/existing"))).toEqual(["f"]);
    expect((await readdir(bed.directory)).sort()).toEqual(["in", "outside"]);
    expect(await readFile(bed.path("outside"), "utf8")).toBe("old");
  });

  test("an end at any block but its last", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("from/d"), { recursive: true });
    await writeFile(bed.path("from/d/ü"), "x".repeat(1300));
    await writeFile(bed.path("from/e"), "y".repeat(512));
    const archive = await packToBytes(bed.path("from"));
    await mkdir(bed.path("to"));
    for (let length = 0; length < archive.length; length += 512) {
      const refusal = await refusalOf(unpackBytes(archive.subarray(0, length), bed.path("to")));
      expect(refusal.code).toBe("E_ARCHIVE_FORMAT");
      expect(await readdir(bed.path("to"))).toEqual([]);
    }
    await unpackBytes(archive, bed.path("to"));
  });
});

describe("what is on disk already is not followed", () => {
  test("a link in the place of a directory of the archive", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("in/top"), { recursive: true });
    await mkdir(bed.path("outside"));
    await symlink("../../outside", bed.path("in/top/d"));
    const archive = inDirectory({ name: "top/d/", type: "5" }, { name: "top/d/evil" });
    expect((await refusalOf(unpackBytes(archive, bed.path("in")))).code).toBe("E_ARCHIVE_DESTINATION");
    const without = inDirectory({ name: "top/d/evil" });
    expect((await refusalOf(unpackBytes(without, bed.path("in")))).code).toBe("E_ARCHIVE_ENTRY");
    expect(await readdir(bed.path("outside"))).toEqual([]);
  });

  test("a link at the top, where the top is a directory", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("in"));
    await mkdir(bed.path("outside"));
    await symlink("../outside", bed.path("in/top"));
    const refusal = await refusalOf(unpackBytes(inDirectory({ name: "top/evil" }), bed.path("in")));
    expect(refusal.code).toBe("E_ARCHIVE_DESTINATION");
    expect(await readdir(bed.path("outside"))).toEqual([]);
  });

  test("a link in the place of a file is replaced, and what it leads to stays as it was", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("in/top"), { recursive: true });
    await writeFile(bed.path("outside"), "old");
    await symlink("../../outside", bed.path("in/top/f"));
    await unpackBytes(inDirectory({ name: "top/f", content: "new" }), bed.path("in"));
    expect(await readFile(bed.path("in/top/f"), "utf8")).toBe("new");
    expect(await readFile(bed.path("outside"), "utf8")).toBe("old");
  });

  test("a file that the archive did not bring gets no second name", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("in/top"), { recursive: true });
    await writeFile(bed.path("in/top/secret"), "old");
    const archive = inDirectory({ name: "top/l", type: "1", link: "top/secret" });
    expect((await refusalOf(unpackBytes(archive, bed.path("in")))).code).toBe("E_ARCHIVE_ENTRY");
    expect(await readdir(bed.path("in/top"))).toEqual(["secret"]);
  });
});

describe("limits", () => {
  const refusal = async (
    archive: Buffer,
    limits: Partial<typeof DEFAULT_ARCHIVE_LIMITS> & { maxTotalBytes?: number },
  ) => {
    await using bed = await openArchiveBed();
    const refused = await refusalOf(
      unpackBytes(archive, bed.path("to"), { limits: { ...DEFAULT_ARCHIVE_LIMITS, ...limits } }),
    );
    expect(await readdir(bed.directory)).toEqual([]);
    return refused;
  };

  test("entries, bytes and depth", async () => {
    const three = inDirectory({ name: "top/a", content: "aaaa" }, { name: "top/b", content: "bbbb" });
    expect((await refusal(three, { maxEntries: 2 })).code).toBe("E_ARCHIVE_LIMIT");
    expect((await refusal(three, { maxTotalBytes: 7 })).code).toBe("E_ARCHIVE_LIMIT");
    expect((await refusal(three, { maxDepth: 1 })).code).toBe("E_ARCHIVE_LIMIT");
    expect((await refusal(three, { maxPathBytes: 4 })).code).toBe("E_ARCHIVE_LIMIT");
  });

  test("extension headers that never come to an entry", async () => {
    const noise = Array.from({ length: 100 }, () => ({
      name: "h",
      type: "g",
      content: paxRecord("comment", "c"),
    }));
    expect((await refusal(rawTar([...noise, { name: "top" }]), { maxEntries: 20 })).code).toBe(
      "E_ARCHIVE_FORMAT",
    );
  });

  test("a size over the limit is refused before its content is waited for", async () => {
    await using bed = await openArchiveBed();
    const input = new PassThrough();
    const member = {
      name: "top",
      type: "file",
      mode: 0o644,
      uid: 0,
      gid: 0,
      mtimeNs: 0n,
      linkName: "",
    } as const;
    input.write(encodeTarMember({ ...member, size: 9 * 1024 ** 3 }));
    const { signal } = new AbortController();
    const limits = { ...DEFAULT_ARCHIVE_LIMITS, maxTotalBytes: 8 * 1024 ** 3 };
    const policy = { owners: "caller", specialModes: "drop" } as const;
    const refused = await refusalOf(unpackArchive(bed.path("to"), { input, signal, limits, ...policy }));
    expect(refused.code).toBe("E_ARCHIVE_LIMIT");
    input.destroy();
  });
});

test("a refusal shows the name of the entry, quoted and not all of a long one", async () => {
  await using bed = await openArchiveBed();
  const refused = await refusalOf(unpackBytes(rawTar([{ name: "\u001b[2J/../x" }]), bed.path("to")));
  expect(refused.message).toContain(String.raw`"\u001b[2J/../x"`);
  const long = await refusalOf(unpackBytes(extended("L", `/${"n".repeat(3000)}`), bed.path("to")));
  expect(long.message.length).toBeLessThan(300);
});

test("any bytes give files or a coded refusal, and nothing outside", async () => {
  await using bed = await openArchiveBed();
  const name = fc.constantFrom("top", "top/a", "top/a/b", "../x", "/x", "top/l/x", "", "top/..", "a");
  const member = fc.record({
    name,
    type: fc.constantFrom("0", "1", "2", "3", "5", "6", "L", "K", "x", "g", "\0", "7"),
    link: fc.oneof(name, fc.constantFrom("..", "/", "../outside")),
    content: fc.oneof(
      fc.constant(""),
      fc.string(),
      fc.uint8Array({ maxLength: 600 }),
      fc
        .dictionary(fc.constantFrom("path", "size", "linkpath", "mtime"), name)
        .map((records) => encodePaxRecords(new Map(Object.entries(records)))),
    ),
  });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(member, { maxLength: 6 }), fc.boolean(), async (members, hasTop) => {
      run += 1;
      const to = bed.path(`in-${run}`);
      await mkdir(to);
      const top = hasTop ? [{ name: "top", type: "5" }] : [];
      const error = await unpackBytes(rawTar([...top, ...members]), to).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (error !== undefined) expect(error).toBeInstanceOf(KitError);
      const left = await readdir(to);
      expect(left.length).toBe(error === undefined ? 1 : 0);
      expect((await readdir(bed.directory)).length).toBe(run);
    }),
    { numRuns: 400 },
  );
});
