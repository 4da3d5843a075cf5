import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { ByteSource } from "../../wire/newc/byte-source.ts";
import {
  encodeNewcHead,
  encodeNewcTrailer,
  type NewcAttributes,
  newcHeadBytes,
  newcPadding,
} from "../../wire/newc/newc-header.ts";
import { type NewcEntry, readNewcArchive } from "../../wire/newc/newc-reader.ts";
import { toPrintablePath } from "../../wire/newc/printable-path.ts";

class Refused extends Error {}
const refuse = (why: string): Error => new Refused(why);

const FILE: NewcAttributes = {
  type: "file",
  mode: 0o644,
  uid: 0,
  gid: 0,
  inode: 1,
  nlink: 1,
  mtime: 0,
  sizeBytes: 0,
  rdevMajor: 0,
  rdevMinor: 0,
};

/** An entry with its body, as the description of the form says, apart from the encoder. */
function raw(
  name: string | Uint8Array,
  fields: Partial<Record<string, string>> = {},
  body: Uint8Array = Buffer.alloc(0),
) {
  const nameBytes = Buffer.concat([Buffer.from(name), Buffer.alloc(1)]);
  const hex = (value: number): string => value.toString(16).padStart(8, "0");
  const text = [
    fields["magic"] ?? "070701",
    fields["inode"] ?? hex(1),
    fields["mode"] ?? hex(0o100644),
    ...["uid", "gid"].map((key) => fields[key] ?? hex(0)),
    fields["nlink"] ?? hex(1),
    fields["mtime"] ?? hex(0),
    fields["size"] ?? hex(body.length),
    ...["devMajor", "devMinor", "rdevMajor", "rdevMinor"].map((key) => fields[key] ?? hex(0)),
    fields["nameSize"] ?? hex(nameBytes.length),
    fields["checksum"] ?? hex(0),
  ].join("");
  const head = Buffer.concat([Buffer.from(text), nameBytes]);
  return Buffer.concat([head, Buffer.alloc(-head.length & 3), body, Buffer.alloc(-body.length & 3)]);
}
const TRAILER = raw("TRAILER!!!", { mode: "00000000", inode: "00000000" });

interface Read extends Omit<NewcEntry, "content"> {
  readonly bytes: Buffer;
}

async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += size) yield bytes.subarray(offset, offset + size);
}

async function readAll(bytes: Uint8Array, chunk = 7): Promise<Read[]> {
  await using source = new ByteSource(chunksOf(bytes, chunk), refuse);
  const entries: Read[] = [];
  for await (const { content, ...entry } of readNewcArchive(source, refuse)) {
    const parts: Uint8Array[] = [];
    for await (const part of content) parts.push(Buffer.from(part));
    entries.push({ ...entry, bytes: Buffer.concat(parts) });
  }
  return entries;
}

async function refusalOf(bytes: Uint8Array): Promise<string> {
  try {
    await readAll(bytes);
    return "accepted";
  } catch (error) {
    expect(error).toBeInstanceOf(Refused);
    return String(error);
  }
}

const number = fc.integer({ min: 0, max: 0xff_ff_ff_ff });
const name = fc
  .uint8Array({ minLength: 1, maxLength: 300 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 ? 1 : byte))))
  .filter((bytes) => bytes.toString() !== "TRAILER!!!");
const attributes = fc.record({
  type: fc.constantFrom("directory", "file", "symlink", "character", "block", "fifo", "socket"),
  mode: fc.nat(0o7777),
  uid: number,
  gid: number,
  inode: number,
  nlink: number,
  mtime: number,
  rdevMajor: number,
  rdevMinor: number,
});

describe("newc archives", () => {
  test("any entries come back as they were, however the bytes are cut", async () => {
    const entry = fc.record({ name, attributes, body: fc.uint8Array({ minLength: 1, maxLength: 9 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 5 }),
        fc.integer({ min: 1, max: 400 }),
        async (list, chunk) => {
          const written = list.map(({ name, attributes, body }) => {
            const content = Buffer.from(attributes.type === "symlink" ? body.map((byte) => byte | 1) : body);
            const hasBody = attributes.type === "file" || attributes.type === "symlink";
            return { ...attributes, name, body: hasBody ? content : Buffer.alloc(0) };
          });
          const parts = written.flatMap(({ name, body, ...attributes }) => [
            encodeNewcHead(name, { ...attributes, sizeBytes: body.length }),
            body,
            Buffer.alloc(newcPadding(body.length)),
          ]);
          const read = await readAll(Buffer.concat([...parts, encodeNewcTrailer()]), chunk);
          expect(read).toMatchObject(
            written.map(({ body, ...rest }) => ({
              ...rest,
              sizeBytes: body.length,
              ...(rest.type === "symlink" ? { target: body } : { bytes: body }),
            })),
          );
        },
      ),
    );
  });

  test("the encoder's bytes are those of the description", () => {
    const attributes = { ...FILE, mode: 0o4755, uid: 1000, inode: 0xab_cd, nlink: 2, sizeBytes: 5 };
    const expected = raw("a/b", {
      inode: "0000abcd",
      mode: "000089ed",
      uid: "000003e8",
      nlink: "00000002",
      size: "00000005",
    });
    expect(encodeNewcHead(Buffer.from("a/b"), attributes)).toEqual(expected);
    expect(encodeNewcTrailer()).toEqual(TRAILER);
    for (const length of [1, 2, 3, 4, 4095])
      expect(encodeNewcHead(Buffer.alloc(length, "x"), FILE).length).toBe(newcHeadBytes(length));
  });

  test.each([
    ["a size of 4 GiB", { sizeBytes: 2 ** 32 }],
    ["a negative owner", { uid: -1 }],
    ["a fraction", { mtime: 0.5 }],
    ["bits that are no mode", { mode: 0o10000 }],
  ])("the encoder refuses %s", (_title, change) => {
    expect(() => encodeNewcHead(Buffer.from("a"), { ...FILE, ...change })).toThrow(RangeError);
  });

  test.each([
    ["no name", Buffer.alloc(0)],
    ["a name with NUL", Buffer.from("a\0b")],
    ["a name of 4096 bytes without its NUL", Buffer.alloc(4096, "x")],
  ])("the encoder refuses %s", (_title, name) => {
    expect(() => encodeNewcHead(name, FILE)).toThrow(RangeError);
  });

  const body = Buffer.from("hello");
  const DIRECTORY = "000041ed";
  const LINK = "0000a1ff";
  test.each<[string, Uint8Array]>([
    ["nothing at all", Buffer.alloc(0)],
    ["an archive without a trailer", raw("a", {}, body)],
    ["a trailer with a body", raw("TRAILER!!!", { mode: "00000000" }, body)],
    ["a trailer that is a link", raw("TRAILER!!!", { mode: LINK })],
    ["the old binary form", raw("a", { magic: "070707" })],
    ["a magic of another case", raw("a", { magic: "O70701" })],
    ["a number with a sign", raw("a", { uid: "+0000001" })],
    ["a negative number", raw("a", { size: "-0000001" })],
    ["a number with spaces", raw("a", { uid: "       1" })],
    ["a number with spaces behind it", raw("a", { uid: "1       " })],
    ["a number with a prefix", raw("a", { uid: "0x000001" })],
    ["a number with a NUL", raw("a", { uid: "1\0\0\0\0\0\0\0" })],
    ["a digit that is none", raw("a", { uid: "0000000g" })],
    ["a name of length 0", raw("a", { nameSize: "00000000" })],
    ["an empty name", raw("")],
    ["a name that is longer than said", raw("abcdefgh", { nameSize: "00000003" })],
    ["a name that is shorter than said", raw("a", { nameSize: "00000004" })],
    ["a name of more than PATH_MAX", raw("x".repeat(4096))],
    ["a huge name", raw("a", { nameSize: "ffffffff" })],
    ["a name with NUL inside", raw("a\0b")],
    ["a mode with more bits", raw("a", { mode: "001081a4" })],
    ["a type that is unknown", raw("a", { mode: "000031a4" })],
    ["a type that is none", raw("a", { mode: "000001a4" })],
    ["a directory with a body", raw("a", { mode: DIRECTORY }, body)],
    ["a symbolic link to nothing", raw("a", { mode: LINK })],
    ["a symbolic link to a NUL", raw("a", { mode: LINK }, Buffer.alloc(1))],
    ["a symbolic link with NUL inside", raw("a", { mode: LINK }, Buffer.from("a\0b"))],
    ["a symbolic link of more than PATH_MAX", raw("a", { mode: LINK }, Buffer.alloc(4096, "x"))],
    ["a symbolic link of 4 GiB", raw("a", { mode: LINK, size: "ffffffff" })],
    ["a file larger than its archive", raw("a", { size: "ffffffff" }, body)],
    ["padding after a name that is not zeros", Buffer.from(raw("ab")).fill(1, 113, 114)],
    ["padding after a body that is not zeros", Buffer.from(raw("a", {}, body)).fill(1, 119, 120)],
    ["a wrong checksum", raw("a", { magic: "070702", checksum: "00000001" }, body)],
  ])("refuses %s", async (title, bytes) => {
    const archive =
      title.includes("without a trailer") || bytes.length === 0 ? bytes : Buffer.concat([bytes, TRAILER]);
    expect(await refusalOf(archive)).not.toBe("accepted");
  });

  test("an archive cut off anywhere is refused, and nothing but a whole one is taken", async () => {
    const archive = Buffer.concat([
      raw("d", { mode: DIRECTORY }),
      raw("d/f", {}, body),
      raw("d/l", { mode: LINK }, Buffer.from("f")),
      TRAILER,
    ]);
    for (let length = 0; length < archive.length; length += 1)
      expect(await refusalOf(archive.subarray(0, length)), `${length} bytes`).not.toBe("accepted");
    expect(await refusalOf(archive)).toBe("accepted");
  });

  test("takes what other programs write: upper-case digits, targets with NUL, sums, sockets", async () => {
    const archive = Buffer.concat([
      raw("f", { magic: "070702", checksum: "00000214", inode: "0000ABCD" }, body),
      raw("f2", { magic: "070702", checksum: "00000214" }),
      raw("l", { mode: LINK }, Buffer.from("target\0")),
      raw("s", { mode: "0000c1ed" }),
      raw("TRAILER!!!", { nlink: "00000000" }),
    ]);
    expect(await readAll(archive)).toMatchObject([
      { type: "file", inode: 0xab_cd, bytes: body },
      { type: "file" },
      { type: "symlink", target: Buffer.from("target") },
      { type: "socket" },
    ]);
  });

  test("content that is not read, or not to its end, is passed over", async () => {
    const archive = Buffer.concat([
      raw("a", {}, Buffer.alloc(100, 1)),
      raw("b", {}, Buffer.alloc(100, 2)),
      TRAILER,
    ]);
    await using source = new ByteSource(chunksOf(archive, 30), refuse);
    const names: string[] = [];
    for await (const entry of readNewcArchive(source, refuse)) {
      names.push(entry.name.toString());
      if (names.length === 1) continue;
      for await (const part of entry.content) if (part.length > 0) break;
    }
    expect(names).toEqual(["a", "b"]);
    expect(source.position).toBe(archive.length);
  });

  test("what follows the trailer is left alone", async () => {
    const archive = Buffer.concat([TRAILER, Buffer.alloc(9), Buffer.from("next")]);
    await using source = new ByteSource(chunksOf(archive, 5), refuse);
    for await (const entry of readNewcArchive(source, refuse)) expect.unreachable(entry.name.toString());
    await source.skipZeros();
    expect((await source.take(4)).toString()).toBe("next");
    expect(await source.atEnd()).toBe(true);
  });

  test("any bytes, and any change of a good archive, give entries or one refusal", async () => {
    const good = Buffer.concat([raw("d", { mode: DIRECTORY }), raw("d/f", {}, body), TRAILER]);
    const changed = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map((changes) =>
        changes.reduce((bytes, [index, value]) => bytes.with(index, value), Uint8Array.from(good)),
      );
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 400 }), changed), async (bytes) => {
        await refusalOf(bytes);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("names as text", () => {
  test("different bytes are different text, and none of it moves the cursor", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), fc.uint8Array({ maxLength: 12 }), (one, other) => {
        const text = toPrintablePath(one);
        expect(text === toPrintablePath(other)).toBe(Buffer.compare(one, other) === 0);
        expect(text).not.toMatch(/[\p{Cc}\p{Cf}]/u);
      }),
      { numRuns: 1000, examples: [[Buffer.from("\\xff"), Uint8Array.of(0xff)]] },
    );
  });

  test.each([
    ["rootfs/été", Buffer.from("rootfs/été")],
    ["a\\x0ab", Buffer.from("a\nb")],
    ["a\\\\x0ab", Buffer.from("a\\x0ab")],
    ["\\xff\\xfe", Uint8Array.of(0xff, 0xfe)],
    ["\\xc3\\xa9\\xff", Uint8Array.of(0xc3, 0xa9, 0xff)],
    ["\\xe2\\x80\\xaegpj", Buffer.from("\u202egpj")],
    ["\\xef\\xbb\\xbfa", Buffer.from("\ufeffa")],
  ])("%s", (text, bytes) => {
    expect(toPrintablePath(bytes)).toBe(text);
  });
});
