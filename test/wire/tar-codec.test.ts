import fc from "fast-check";
import { expect, test } from "vitest";

import {
  decodePaxRecords,
  decodePaxTime,
  encodePaxRecords,
  encodePaxTime,
} from "../../wire/tar/pax-records.ts";
import { encodeTarMember, tarPadding } from "../../wire/tar/tar-header-encoder.ts";
import { readTar, type TarMember } from "../../wire/tar/tar-reader.ts";

const refuse = (why: string): Error => new Error(why);

async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += size) yield bytes.subarray(offset, offset + size);
}

test("a member comes back from its headers as it was", async () => {
  const text = fc
    .string({ unit: "binary", minLength: 1, maxLength: 300 })
    .map((name) => name.toWellFormed().replaceAll(/\0|\/$/g, "_"));
  const member = fc.record({
    name: text,
    type: fc.constantFrom("file", "hardlink", "symlink", "directory"),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 0xff_ff_ff_fe }),
    gid: fc.integer({ min: 0, max: 0xff_ff_ff_fe }),
    size: fc.constantFrom(0, 1, 511, 512, 513),
    mtimeNs: fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }),
    linkName: text,
  });
  await fc.assert(
    fc.asyncProperty(member, fc.integer({ min: 1, max: 3000 }), async (fields, chunk) => {
      const size = fields.type === "file" ? fields.size : 0;
      const content = Buffer.alloc(size + tarPadding(size));
      const archive = Buffer.concat([encodeTarMember({ ...fields, size }), content, Buffer.alloc(1024)]);
      const members: TarMember[] = [];
      for await (const found of readTar(chunksOf(archive, chunk), { refuse, isWhole: true }))
        members.push(found);
      const name = fields.type === "directory" ? `${fields.name}/` : fields.name;
      expect(members).toMatchObject([{ ...fields, name, size }]);
    }),
  );
});

test("sizes from 8 GiB on and owners over 21 bits are told both ways where there are two", async () => {
  const base = { name: "f", type: "file", mode: 0, mtimeNs: 0n, linkName: "" } as const;
  const header = encodeTarMember({ ...base, size: 2 ** 33, uid: 2 ** 21, gid: 2 ** 21 - 1 });
  expect(header.length).toBe(1536);
  expect(decodePaxRecords(header.subarray(512, 512 + header.indexOf("\n\0", 512) - 511), refuse)).toEqual(
    new Map([
      ["uid", Buffer.from("2097152")],
      ["size", Buffer.from("8589934592")],
    ]),
  );
  expect(header[1024 + 124]).toBe(0x80);
  expect(encodeTarMember({ ...base, size: 2 ** 33 - 1, uid: 0, gid: 0 }).length).toBe(512);
});

test("pax records come back as they were, whatever their length", () => {
  const records = fc.dictionary(fc.stringMatching(/^[a-z.]{1,20}$/), fc.string({ maxLength: 1200 }), {
    maxKeys: 5,
  });
  fc.assert(
    fc.property(records, (records) => {
      const decoded = decodePaxRecords(encodePaxRecords(new Map(Object.entries(records))), refuse);
      expect(Object.fromEntries([...decoded].map(([key, value]) => [key, value.toString()]))).toEqual({
        ...records,
      });
    }),
  );
  for (let length = 0; length < 1100; length += 1)
    expect(
      decodePaxRecords(encodePaxRecords(new Map([["k", "v".repeat(length)]])), refuse).get("k")?.length,
    ).toBe(length);
});

test("pax times come back to the nanosecond", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), (time) => {
      expect(decodePaxTime(Buffer.from(encodePaxTime(time)))).toBe(time);
    }),
  );
  const decode = (text: string): bigint | undefined => decodePaxTime(Buffer.from(text));
  expect([decode("1."), decode("0001.5"), decode("-0.0000000001")]).toEqual([
    1_000_000_000n,
    1_500_000_000n,
    -1n,
  ]);
  for (const text of ["", "-", ".5", "1e9", "0x1", " 1", "1 ", "+1", "9".repeat(13), "1".repeat(40)])
    expect(decode(text)).toBeUndefined();
});
