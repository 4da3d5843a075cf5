import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync, constants } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { assembleArchive, type HandEntry } from "./hand-assembly.ts";
import { listRamdisk, readRamdiskStreams } from "./ramdisk-lister.ts";

let directory: string;
let count = 0;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "independent-ramdisk-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** Lies in the middle of a file, as a ramdisk does in an image. */
async function stored(ramdisk: Buffer): Promise<[path: string, offset: number, size: number]> {
  const path = join(directory, `${count++}`);
  await writeFile(path, Buffer.concat([Buffer.alloc(7, 1), ramdisk, Buffer.alloc(5, 2)]));
  return [path, 7, ramdisk.length];
}

const list = async (ramdisk: Buffer) => listRamdisk(...(await stored(ramdisk)));
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const DIRECTORY: HandEntry = { name: "etc", mode: 0o40755, inode: 1, links: 2 };
const FILE: HandEntry = { name: "etc/motd", mode: 0o100644, inode: 2, data: Buffer.from("hello") };
const LARGE: HandEntry = {
  name: "large",
  mode: 0o100600,
  inode: 3,
  data: Buffer.alloc(3_000_000, "pattern 0123"),
};

describe("the entries of an archive", () => {
  test("come with every attribute, from bytes written out in full", async () => {
    const text =
      "070701" + // magic
      "0000002a" + // inode 42
      "000089ed" + // mode 0104755
      "000003e8" + // uid 1000
      "00000064" + // gid 100
      "00000001" + // one name
      "5e0be100" + // 2020-01-01T00:00:00Z
      "00000005" + // five bytes
      "00000008" + // device 8:1
      "00000001" +
      "00000000" + // no node
      "00000000" +
      "00000006" + // "s/uid" and its NUL
      "00000000" + // no check sum
      "s/uid\0" + // 110 + 6 is a multiple of four
      "hello\0\0\0" +
      `070701${"0".repeat(8 * 11)}0000000b00000000TRAILER!!!\0\0\0\0`;
    expect(await list(Buffer.from(text, "latin1"))).toEqual([
      {
        path: "s/uid",
        pathBytes: Buffer.from("s/uid"),
        mode: 0o104755,
        uid: 1000,
        gid: 100,
        inode: 42,
        links: 1,
        mtime: Date.UTC(2020, 0, 1) / 1000,
        device: [8, 1],
        node: [0, 0],
        sizeBytes: 5,
        sha256: sha256("hello"),
        stream: 0,
      },
    ]);
  });

  test("keep the order of the archive", async () => {
    const entries = await list(assembleArchive([DIRECTORY, FILE, LARGE]));
    expect(entries.map(({ path }) => path)).toEqual(["etc", "etc/motd", "large"]);
    expect(entries[0]).toMatchObject({ mode: 0o40755, sizeBytes: 0, sha256: sha256("") });
  });

  test("give every name of a hard-linked file its content, whichever name carries it", async () => {
    const linked = { mode: 0o100644, inode: 9, links: 3 };
    const archive = assembleArchive([
      { ...linked, name: "a" },
      { ...linked, name: "b", data: Buffer.from("shared") },
      { ...linked, name: "c" },
    ]);
    expect((await list(archive)).map(({ sha256 }) => sha256)).toEqual(Array(3).fill(sha256("shared")));
  });

  test("show the target of a symbolic link and the numbers of a node", async () => {
    const archive = assembleArchive([
      { name: "link", mode: 0o120777, data: Buffer.from("../target") },
      { name: "null", mode: 0o20666, node: [1, 3] },
    ]);
    const [link, node] = await list(archive);
    expect(link).toMatchObject({ linkTarget: "../target", sizeBytes: 9, sha256: sha256("../target") });
    expect(node).toMatchObject({ mode: 0o20666, node: [1, 3] });
  });

  test("may have names with newlines and bytes that are no UTF-8", async () => {
    const name = Buffer.from([0x61, 0x0a, 0xff, 0x62]);
    const [entry] = await list(assembleArchive([{ name, mode: 0o100644 }]));
    expect(entry).toMatchObject({ path: "a\n\ufffdb", pathBytes: name });
  });
});

describe("the streams of a ramdisk", () => {
  const first = assembleArchive([DIRECTORY, FILE]);
  const second = assembleArchive([LARGE]);

  test.each([
    ["plain", first, second],
    ["gzip", gzipSync(first), gzipSync(second)],
    ["zstd", zstdCompressSync(first), zstdCompressSync(second)],
  ])("are told apart when both are %s", async (form, one, two) => {
    const place = await stored(Buffer.concat([one, two]));
    const streams = await readRamdiskStreams(...place);
    expect(streams.map((stream) => [stream.form, stream.offset])).toEqual([
      [form, 0],
      [form, one.length],
    ]);
    const entries = await listRamdisk(...place);
    expect(entries.map(({ path, stream }) => [path, stream])).toEqual([
      ["etc", 0],
      ["etc/motd", 0],
      ["large", 1],
    ]);
    expect(entries[2]?.sha256).toBe(sha256(LARGE.data?.toString() ?? ""));
  });

  test("may be of different forms, with zero bytes between them", async () => {
    const plain = Buffer.concat([first, Buffer.alloc(512 - (first.length % 512))]);
    const checked = zstdCompressSync(second, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    const ramdisk = Buffer.concat([plain, checked, Buffer.alloc(3), gzipSync(first), Buffer.alloc(9)]);
    expect((await list(ramdisk)).map(({ stream }) => stream)).toEqual([0, 0, 1, 2, 2]);
  });

  test("may hold several archives each", async () => {
    const stream = zstdCompressSync(Buffer.concat([first, Buffer.alloc(8), second]));
    expect((await list(stream)).map(({ stream }) => stream)).toEqual([0, 0, 0]);
  });

  test("may use every kind of zstd block and frame header", async () => {
    const noise = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * i * 2_654_435_761) >>> 11));
    const archive = assembleArchive([{ name: "noise", mode: 0o100644, data: noise }, LARGE]);
    for (const level of [1, 3, 19]) {
      const params = {
        [constants.ZSTD_c_compressionLevel]: level,
        [constants.ZSTD_c_contentSizeFlag]: level % 2,
      };
      expect(await list(zstdCompressSync(archive, { params })), `level ${level}`).toHaveLength(2);
    }
    expect(await list(rawAndRepeatedBlocks())).toHaveLength(1);
  });
});

/** A zstd frame written by hand: one raw block with an archive in it and one block of 600 repeated zero bytes. */
function rawAndRepeatedBlocks(): Buffer {
  const archive = assembleArchive([FILE]);
  const block = (last: number, type: number, size: number): Buffer => {
    const header = Buffer.alloc(3);
    header.writeUIntLE((size << 3) | (type << 1) | last, 0, 3);
    return header;
  };
  const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58]);
  return Buffer.concat([frame, block(0, 0, archive.length), archive, block(1, 1, 600), Buffer.alloc(1)]);
}

describe("a ramdisk is refused when", () => {
  const good = assembleArchive([FILE]);
  const changed = (position: number, text: string): Buffer => {
    const bytes = Buffer.from(good);
    bytes.write(text, position, "latin1");
    return bytes;
  };
  const cases: [string, Buffer, string][] = [
    ["it starts with anything else", Buffer.from("hello world"), "starts neither"],
    ["an archive has no trailer", good.subarray(0, -124), "starts with"],
    ["an archive of another kind follows", changed(0, "070702"), "starts with"],
    ["a field is not hexadecimal", changed(6, "0000002g"), "no hexadecimal field"],
    ["a field has a sign", changed(6, "+0000002"), "no hexadecimal field"],
    ["an entry has a check sum", changed(102, "00000001"), "has a check sum"],
    ["a name does not end at its NUL", changed(111, "\0"), "only NUL"],
    ["a name's padding is not zero", changed(119, "x"), "padding"],
    ["data is longer than the archive", changed(54, "0fffffff"), "cut short"],
    ["a path is absolute", assembleArchive([{ ...FILE, name: "/etc/motd" }]), "not plain"],
    ["a path goes up", assembleArchive([{ ...FILE, name: "a/../b" }]), "not plain"],
    ["a directory has data", assembleArchive([{ ...DIRECTORY, data: Buffer.from("x") }]), "yet has data"],
    ["a plain archive is not aligned", Buffer.concat([Buffer.alloc(2), good]), "no multiple of four"],
    ["a zstd frame is cut", zstdCompressSync(good).subarray(0, -1), "cut short"],
    ["a gzip member is cut", gzipSync(good).subarray(0, -1), "cut short"],
    ["an archive goes over two frames", overTwoFrames(good), "starts with"],
  ];

  test.each(cases)("%s", async (_, ramdisk, message) => {
    await expect(list(ramdisk)).rejects.toThrow(message);
  });

  test("the CRC-32 of a gzip member or the check sum of a zstd frame is wrong", async () => {
    const member = gzipSync(good);
    member.writeUInt32LE(member.readUInt32LE(member.length - 8) ^ 1, member.length - 8);
    await expect(list(member)).rejects.toThrow("wrong CRC-32");
    const frame = zstdCompressSync(good, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    frame.writeUInt8(frame.readUInt8(frame.length - 1) ^ 1, frame.length - 1);
    await expect(list(frame)).rejects.toThrow(/checksum/i);
  });

  function overTwoFrames(archive: Buffer): Buffer {
    return Buffer.concat([
      zstdCompressSync(archive.subarray(0, 128)),
      zstdCompressSync(archive.subarray(128)),
    ]);
  }
});
