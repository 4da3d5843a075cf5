import { appendFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { NameTable, toIpv6Form } from "../../../pf-proxy/names/name-table.ts";
import { EGRESS_RANGE, FIRST_NAME_ADDRESS } from "../../../wire/egress-addresses.ts";

const MAX_NAMES = 65_536;
const numbered = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_item, index) => `n${from + index}.wild.test`);

let directory: string;
let journal: string;
let count = 0;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "names-"));
});
beforeEach(() => {
  count += 1;
  journal = join(directory, `journal-${count}`);
});
afterAll(() => rm(directory, { recursive: true }));

describe("a name table", () => {
  test("gives exact names the first addresses, in order, and each once", async () => {
    const table = await NameTable.open({ names: ["b.test", "a.test", "b.test"] });
    expect(table.size).toBe(2);
    expect(await table.addressOf("b.test")).toBe(FIRST_NAME_ADDRESS);
    expect(await table.addressOf("a.test")).toBe("198.18.1.1");
    expect(await table.addressOf("c.test")).toBe("198.18.1.2");
    expect(await table.addressOf("b.test")).toBe(FIRST_NAME_ADDRESS);
    expect(table.size).toBe(3);
  });

  test("gives 20,000 names that are asked for at once an address each, and finds them by both forms", async () => {
    const table = await NameTable.open({ names: [], journal });
    const names = numbered(20_000);
    const addresses = await Promise.all(names.map((name) => table.addressOf(name)));
    expect(new Set(addresses).size).toBe(20_000);
    expect(addresses[19_999]).toBe("198.18.79.31");
    for (const [index, address] of addresses.entries()) {
      if (address === undefined) throw new Error("no address");
      expect(table.nameAt(address)).toBe(names[index]);
      expect(table.nameAt(toIpv6Form(address))).toBe(names[index]);
    }
    expect(await readFile(journal, "utf8")).toBe(names.map((name) => `${name}\n`).join(""));
  });

  test("is full at 65,536 names, all of them in the range, and those that it has stay", async () => {
    const names = numbered(MAX_NAMES);
    const table = await NameTable.open({ names, journal });
    expect(table.size).toBe(MAX_NAMES);
    expect(await table.addressOf("one-more.wild.test")).toBeUndefined();
    expect(table.size).toBe(MAX_NAMES);
    expect(await table.addressOf(names.at(-1) ?? "")).toBe("198.19.0.255");
    const again = await NameTable.open({ names: ["late.test"], journal });
    expect(again.size).toBe(MAX_NAMES);
    expect(await again.addressOf("late.test")).toBeUndefined();
    expect(again.nameAt("198.19.0.255")).toBe(names.at(-1));
  });

  test.each([
    "fd50:5ce8:64ff::c612:100",
    "FD50:5CE8:64FF::C612:100",
    "fd50:5ce8:64ff:0:0:0:c612:0100",
    "fd50:5ce8:64ff::198.18.1.0",
    "::ffff:198.18.1.0",
    "198.18.1.0",
  ])("knows the name at %s", async (address) => {
    const table = await NameTable.open({ names: ["a.test"] });
    expect(table.nameAt(address)).toBe("a.test");
  });

  test.each([
    "198.18.0.255",
    "198.18.0.2",
    "198.18.1.1",
    "198.17.255.255",
    "0.0.0.0",
    "255.255.255.255",
    "fd50:5ce8:64ff::c612:101",
    "fd50:5ce8:64ff::",
    "fd50:5ce8:64fe::c612:100",
    "fd50:5ce8:64ff:1::c612:100",
    "::c612:100",
    "::1",
    "",
    "a.test",
    "198.18.1",
    "198.18.01.0",
    "198.18.1.0 ",
    "fd50:5ce8:64ff::c612:100%lo",
    "length",
    "-1",
    "__proto__",
  ])("knows no name at %j", async (address) => {
    const table = await NameTable.open({ names: ["a.test"] });
    expect(table.nameAt(address)).toBeUndefined();
  });

  test("finds names at the addresses that it gave, and at no others", async () => {
    const names = numbered(300);
    const table = await NameTable.open({ names });
    const first = 0xc6120100;
    fc.assert(
      fc.property(fc.integer({ min: first - 600, max: first + 600 }), (value) => {
        const ipv4 = [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff).join(".");
        expect(table.nameAt(ipv4)).toBe(names[value - first]);
        expect(table.nameAt(toIpv6Form(ipv4))).toBe(names[value - first]);
      }),
    );
  });

  test("finds no name for any text that is no address", async () => {
    const table = await NameTable.open({ names: numbered(10) });
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        fc.pre(isIP(text) === 0);
        expect(table.nameAt(text)).toBeUndefined();
      }),
    );
  });

  test("makes the IPv6 form of an address within the range", () => {
    expect(toIpv6Form("198.18.1.0")).toBe("fd50:5ce8:64ff::c612:100");
    expect(toIpv6Form("198.19.255.255")).toBe("fd50:5ce8:64ff::c613:ffff");
    expect(toIpv6Form("198.18.1.0").startsWith(EGRESS_RANGE.ipv6)).toBe(true);
  });
});

describe("the journal of a name table", () => {
  test("gives the same addresses after a restart, whatever is asked first", async () => {
    const names = ["exact.test", "z.wild.test", "a.wild.test", "m.wild.test"];
    const first = await NameTable.open({ names: ["exact.test"], journal });
    for (const name of names) await first.addressOf(name);
    const second = await NameTable.open({ names: ["exact.test"], journal });
    expect(second.size).toBe(4);
    for (const name of names.toReversed())
      expect(await second.addressOf(name)).toBe(await first.addressOf(name));
    expect(await second.addressOf("new.wild.test")).toBe("198.18.1.4");
  });

  test("keeps the addresses of names when the policy has others first", async () => {
    const first = await NameTable.open({ names: ["old.test"], journal });
    const address = await first.addressOf("w.wild.test");
    const second = await NameTable.open({ names: ["new.test", "old.test"], journal });
    expect(await second.addressOf("old.test")).toBe(FIRST_NAME_ADDRESS);
    expect(await second.addressOf("w.wild.test")).toBe(address);
    expect(await second.addressOf("new.test")).toBe("198.18.1.2");
  });

  test("holds a name before its address is told", async () => {
    const table = await NameTable.open({ names: [], journal });
    const told = numbered(200).map(async (name) => {
      await table.addressOf(name);
      return (await readFile(journal, "utf8")).includes(`${name}\n`);
    });
    expect(await Promise.all(told)).not.toContain(false);
  });

  test("is readable by its owner alone", async () => {
    await NameTable.open({ names: ["a.test"], journal });
    expect((await stat(journal)).mode & 0o777).toBe(0o600);
  });

  test.each([
    ["a torn line", "a.test\nb.test\nc.te", ["a.test", "b.test"]],
    ["a line without an end", "a.test", []],
    ["a name twice", "a.test\nb.test\na.test\nc.test\n", ["a.test", "b.test"]],
    ["capitals", "a.test\nB.test\nc.test\n", ["a.test"]],
    ["an empty line", "a.test\n\nc.test\n", ["a.test"]],
    ["a NUL", "a.test\nb\0.test\nc.test\n", ["a.test"]],
    ["another end of line", "a.test\r\nb.test\r\n", []],
    ["an address", "a.test\n10.0.0.1\nb.test\n", ["a.test"]],
    ["a name that is too long", `a.test\n${"a.".repeat(130)}test\nb.test\n`, ["a.test"]],
    ["bytes that are no text", Buffer.from([0x61, 0x0a, 0xff, 0xfe, 0x0a, 0x62, 0x0a]), ["a"]],
    ["letters beyond ASCII", "a.test\nbücher.test\nb.test\n", ["a.test"]],
    ["nothing", "", []],
  ])("is believed up to %s, and is right again after the next name", async (_title, content, believed) => {
    await writeFile(journal, content);
    const table = await NameTable.open({ names: [], journal });
    expect(table.size).toBe(believed.length);
    const address = await table.addressOf("next.wild.test");
    expect(await readFile(journal, "utf8")).toBe(
      [...believed, "next.wild.test"].map((name) => `${name}\n`).join(""),
    );
    const again = await NameTable.open({ names: [], journal });
    expect(await again.addressOf("next.wild.test")).toBe(address);
    expect(again.size).toBe(believed.length + 1);
  });

  test("that is torn at any byte gives no name the address of another", async () => {
    const names = ["one.test", "two.test", "three.test"];
    const whole = names.map((name) => `${name}\n`).join("");
    for (let length = 0; length <= whole.length; length += 1) {
      await writeFile(journal, whole.slice(0, length));
      const table = await NameTable.open({ names: [], journal });
      for (let index = 0; index < table.size; index += 1)
        expect(table.nameAt(`198.18.1.${index}`)).toBe(names[index]);
      await table.addressOf("later.test");
      const again = await NameTable.open({ names: [], journal });
      expect(await again.addressOf("later.test")).toBe(`198.18.1.${table.size - 1}`);
    }
  });

  test("of any bytes is read without harm", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        await writeFile(journal, bytes);
        const table = await NameTable.open({ names: ["a.test"], journal });
        const lines = (await readFile(journal, "latin1")).split("\n").slice(0, -1);
        expect(lines.length).toBe(table.size);
      }),
      { numRuns: 100 },
    );
  });

  test("of many megabytes is read up to its limit", async () => {
    await writeFile(journal, `a.test\n${"x".repeat(1024)}`);
    const filler = "y".repeat(1024 * 1024);
    for (let index = 0; index < 20; index += 1) await appendFile(journal, filler);
    const table = await NameTable.open({ names: [], journal });
    expect(table.size).toBe(1);
    expect((await stat(journal)).size).toBe("a.test\n".length);
  });

  test("that cannot be written refuses to open", async () => {
    await expect(
      NameTable.open({ names: ["a.test"], journal: join(directory, "absent", "journal") }),
    ).rejects.toMatchObject({ code: "ENOENT" });
    await expect(NameTable.open({ names: [], journal: directory })).rejects.toMatchObject({ code: "EISDIR" });
  });

  test("that cannot be written for a while tells no address, and afterwards has every name in order", async () => {
    const table = await NameTable.open({ names: ["a.test"], journal });
    await rm(directory, { recursive: true });
    const names = ["b.test", "c.test", "b.test"];
    const outcomes = await Promise.allSettled(names.map((name) => table.addressOf(name)));
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    await expect(table.addressOf("a.test")).rejects.toMatchObject({ code: "ENOENT" });
    await mkdir(directory);
    await writeFile(journal, "a.test\nb.te");
    expect(await table.addressOf("d.test")).toBe("198.18.1.3");
    expect(await readFile(journal, "utf8")).toBe("a.test\nb.test\nc.test\nd.test\n");
    expect(await table.addressOf("b.test")).toBe("198.18.1.1");
  });
});
