import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";

import { NameTable, toIpv6Form } from "../../../pf-proxy/names/name-table.ts";
import { EgressPolicy } from "../../../pf-proxy/policy/egress-policy.ts";
import { Resolver, type ResolverOptions } from "../../../pf-proxy/resolver/resolver.ts";
import type { EgressRule } from "../../../wire/egress-policy.ts";
import {
  CODE,
  longestName,
  type QuestionFields,
  readAnswer,
  TYPE,
  writeName,
  writeOptions,
  writeQuestion,
} from "./dns-questions.ts";

const HTTPS = [{ from: 443, to: 443 }];
const ALL_PORTS = [{ from: 1, to: 65_535 }];
const LONGEST = longestName("wild.test");
const RULES: readonly EgressRule[] = [
  { action: "allow", host: "a.test", ports: HTTPS },
  { action: "allow", host: "*.wild.test", ports: HTTPS },
  { action: "allow", host: "xn--bcher-kva.test", ports: HTTPS },
  { action: "allow", host: "printer.arpa", ports: HTTPS },
  { action: "deny", host: "secret.wild.test", ports: ALL_PORTS },
];

let names: NameTable;
let denied: string[];
const open = (options: Partial<ResolverOptions> = {}): Resolver => {
  const policy = new EgressPolicy(RULES);
  return new Resolver({
    answersName: (name) => policy.answersName(name),
    names,
    ipv6: true,
    onDenied: (name, reason) => denied.push(`${name} ${reason}`),
    ...options,
  });
};
beforeEach(async () => {
  names = await NameTable.open({ names: new EgressPolicy(RULES).exactNames() });
  denied = [];
});

async function ask(fields: QuestionFields, resolver = open()) {
  return readAnswer(await resolver.answer(writeQuestion(fields), "udp"));
}

async function look(name: string, type: number = TYPE.A, resolver = open()) {
  const { code, answers = [] } = await ask({ name: writeName(name), type }, resolver);
  return { code, data: answers.map((record) => ("data" in record ? record.data : null)) };
}

describe("an allowed name", () => {
  test("has an IPv4 and an IPv6 address, both its own, for a minute", async () => {
    const { code, answers } = await ask({ name: writeName("a.test") });
    expect(code).toBe(CODE.ok);
    expect(answers).toMatchObject([{ name: "a.test", type: "A", class: "IN", ttl: 60, data: "198.18.1.0" }]);
    expect(await look("a.test", TYPE.AAAA)).toEqual({ code: CODE.ok, data: [toIpv6Form("198.18.1.0")] });
    expect(denied).toEqual([]);
  });

  test("below a wildcard gets its address with the first question and keeps it", async () => {
    const resolver = open();
    const first = await look("x.wild.test", TYPE.A, resolver);
    const second = await look("deep.x.wild.test", TYPE.A, resolver);
    expect(first.data).not.toEqual(second.data);
    expect(await look("X.Wild.TEST", TYPE.A, resolver)).toEqual(first);
    expect(await names.addressOf("x.wild.test")).toBe(first.data[0]);
  });

  test("comes back in the case of the question", async () => {
    const bytes = await open().answer(writeQuestion({ name: writeName("A.tEsT") }), "udp");
    const { questions, answers } = readAnswer(bytes);
    expect(questions?.[0]?.name).toBe("A.tEsT");
    expect(answers?.[0]?.name).toBe("A.tEsT");
  });

  test("has no IPv6 address where the enclave has no IPv6", async () => {
    const resolver = open({ ipv6: false });
    expect(await look("a.test", TYPE.AAAA, resolver)).toEqual({ code: CODE.ok, data: [] });
    expect(await look("a.test", TYPE.A, resolver)).toEqual({ code: CODE.ok, data: ["198.18.1.0"] });
    expect(await look("localhost", TYPE.AAAA, resolver)).toEqual({ code: CODE.ok, data: [] });
  });

  test.each(Object.entries(TYPE).filter(([type]) => type !== "A" && type !== "AAAA"))(
    "has no record of type %s, and is no denial",
    async (_title, type) => {
      const { code, answers, authorities } = await ask({ name: writeName("x.wild.test"), type });
      expect(code).toBe(CODE.ok);
      expect(answers).toEqual([]);
      expect(authorities).toMatchObject([{ type: "SOA", ttl: 1, data: { minimum: 1 } }]);
      expect(denied).toEqual([]);
      expect(names.size).toBe(3);
    },
  );

  test("of 253 characters fits the datagram of the smallest client", async () => {
    for (const type of [TYPE.A, TYPE.AAAA, TYPE.MX]) {
      const bytes = await open().answer(writeQuestion({ name: writeName(LONGEST), type }), "udp");
      expect(bytes?.length).toBeLessThanOrEqual(512);
      expect(readAnswer(bytes).code).toBe(CODE.ok);
    }
    const address = await names.addressOf(LONGEST);
    const pointer = pointerOf(toIpv6Form(address ?? ""));
    const bytes = await open().answer(
      writeQuestion({ name: writeName(pointer), type: TYPE.PTR, counts: [1, 0, 0, 1], rest: writeOptions() }),
      "udp",
    );
    expect(readAnswer(bytes).answers).toMatchObject([{ type: "PTR", data: LONGEST }]);
    expect(bytes?.length).toBeLessThanOrEqual(512);
  });

  test("is told only when its listeners are there", async () => {
    const order: string[] = [];
    const resolver = open({ beforeAnswer: async (name) => void order.push(`open ${name}`) });
    await look("x.wild.test", TYPE.A, resolver);
    await look("x.wild.test", TYPE.MX, resolver);
    await look("no.test", TYPE.A, resolver);
    expect(order).toEqual(["open x.wild.test"]);
    const failing = open({ beforeAnswer: async () => await Promise.reject(new Error("no listener")) });
    expect(await look("x.wild.test", TYPE.A, failing)).toEqual({ code: CODE.failure, data: [] });
  });
});

describe("a name that no rule allows", () => {
  test.each(Object.entries(TYPE))("does not exist, and is one denial, for type %s", async (_title, type) => {
    const { code, answers, authorities } = await ask({ name: writeName("evil.test"), type });
    expect(code).toBe(CODE.noSuchName);
    expect(answers).toEqual([]);
    expect(authorities).toMatchObject([{ type: "SOA", ttl: 1, data: { minimum: 1 } }]);
    expect(denied).toEqual(["evil.test no_rule"]);
  });

  test.each([
    "wild.test",
    "secret.wild.test",
    "SECRET.wild.TEST",
    "b.a.test",
    "atest",
    "test",
    "a.test.evil",
    "a",
    "xa.test",
    "evilwild.test",
    "localhost.evil.test",
    "notlocalhost",
    "a.test.localhost.test",
  ])("does not exist: %s", async (name) => {
    expect(await look(name)).toEqual({ code: CODE.noSuchName, data: [] });
    expect(denied).toEqual([`${name.toLowerCase()} no_rule`]);
  });

  test("takes no room in the table", async () => {
    for (let index = 0; index < 1000; index += 1) await look(`n${index}.evil.test`);
    expect(names.size).toBe(3);
    expect(denied).toHaveLength(1000);
  });
});

describe("what is no host name does not exist", () => {
  test.each([
    ["the root", writeName([]), "."],
    ["a NUL", writeName([Buffer.from("a\0"), Buffer.from("test")]), "a\\000.test"],
    [
      "a NUL that hides the rest",
      writeName([Buffer.from("a.test\0"), Buffer.from("evil")]),
      "a\\046test\\000.evil",
    ],
    ["a dot in a label", writeName([Buffer.from("a.test")]), "a\\046test"],
    ["a dot in a label below a wildcard", writeName([Buffer.from("x.wild.test")]), "x\\046wild\\046test"],
    ["a space", writeName("a .test"), "a\\032.test"],
    ["a line feed", writeName("a\n.test"), "a\\010.test"],
    ["a backslash", writeName("a\\.test"), "a\\092.test"],
    ["UTF-8", writeName("bücher.test"), "b\\195\\188cher.test"],
    ["a wildcard", writeName("*.wild.test"), "*.wild.test"],
    ["a slash", writeName("a/b.wild.test"), "a/b.wild.test"],
    ["a percent sign", writeName("a%2e.wild.test"), "a%2e.wild.test"],
    ["an at sign", writeName("u@a.test"), "u@a.test"],
    ["a colon", writeName("a:443.wild.test"), "a:443.wild.test"],
    ["a hyphen at an end", writeName("-a.wild.test"), "-a.wild.test"],
    ["IDNA that is none", writeName("xn--a.wild.test"), "xn--a.wild.test"],
    ["an IPv4 address", writeName("10.0.0.1"), "10.0.0.1"],
    ["a hexadecimal address", writeName("0x7f.1"), "0x7f.1"],
    ["a decimal address", writeName("2130706433"), "2130706433"],
  ])("%s", async (_title, name, shown) => {
    const { code } = await ask({ name });
    expect(code).toBe(CODE.noSuchName);
    expect(denied).toEqual([`${shown} not_a_name`]);
    expect(names.size).toBe(3);
  });

  test("and is told in 255 plain characters at most", async () => {
    const name = writeName([Buffer.alloc(63, 7), Buffer.alloc(63, 0xff), Buffer.alloc(63, 0x22)]);
    expect((await ask({ name })).code).toBe(CODE.noSuchName);
    expect(denied).toEqual([`${"\\007".repeat(63)}.\\2 not_a_name`]);
  });
});

describe("localhost", () => {
  test.each(["localhost", "LocalHost", "a.localhost", "b.a.localhost"])("%s is loopback", async (name) => {
    const nobody = open({ answersName: () => false });
    expect(await look(name, TYPE.A, nobody)).toEqual({ code: CODE.ok, data: ["127.0.0.1"] });
    expect(await look(name, TYPE.AAAA, nobody)).toEqual({ code: CODE.ok, data: ["::1"] });
    expect(await look(name, TYPE.MX, nobody)).toEqual({ code: CODE.ok, data: [] });
    expect(denied).toEqual([]);
  });
});

describe("the name of an address", () => {
  test("is that for which the address stands, in both families", async () => {
    const address = "198.18.1.0";
    expect(await look(pointerOf(address), TYPE.PTR)).toEqual({ code: CODE.ok, data: ["a.test"] });
    expect(await look(pointerOf(toIpv6Form(address)).toUpperCase(), TYPE.PTR)).toEqual({
      code: CODE.ok,
      data: ["a.test"],
    });
  });

  test.each([
    "0.0.0.0",
    "198.18.0.2",
    "198.18.1.200",
    "198.19.255.255",
    "9.9.9.9",
    "127.0.0.1",
    "255.255.255.255",
    "::1",
    "fd50:5ce8:64ff::1",
    "fd50:5ce8:64fe::c612:100",
  ])("is none for %s, which is no denial", async (address) => {
    expect(await look(pointerOf(address), TYPE.PTR)).toEqual({ code: CODE.noSuchName, data: [] });
    expect(denied).toEqual([]);
  });

  test.each([
    "1.18.198.in-addr.arpa",
    "00.1.18.198.in-addr.arpa.evil.test",
    "0.1.18.198.x.in-addr.arpa",
    "arpa",
  ])("is asked for as such: %s is a name like any other", async (name) => {
    expect(await look(name, TYPE.PTR)).toEqual({ code: CODE.noSuchName, data: [] });
    expect(denied).toEqual([`${name} no_rule`]);
  });

  test("is none for numbers that are no address", async () => {
    for (const name of ["999.1.18.198.in-addr.arpa", "00.1.18.198.in-addr.arpa"])
      expect(await look(name, TYPE.PTR)).toEqual({ code: CODE.noSuchName, data: [] });
  });

  test("does not stand in the way of an allowed name below arpa", async () => {
    expect(await look("printer.arpa", TYPE.PTR)).toEqual({ code: CODE.ok, data: [] });
    expect((await look("printer.arpa")).data).toEqual(["198.18.1.2"]);
  });
});

describe("limits", () => {
  test("a table that is full answers what it has, and fails for the rest", async () => {
    const many = Array.from({ length: 65_536 }, (_item, index) => `n${index}.wild.test`);
    const full = open({ names: await NameTable.open({ names: many }) });
    expect(await look("n7.wild.test", TYPE.A, full)).toEqual({ code: CODE.ok, data: ["198.18.1.7"] });
    expect(await look("late.wild.test", TYPE.A, full)).toEqual({ code: CODE.failure, data: [] });
    expect(await look("late.wild.test", TYPE.MX, full)).toEqual({ code: CODE.ok, data: [] });
    expect(denied).toEqual(["late.wild.test limit"]);
  });

  test("a journal that cannot be written answers nothing new, and says so", async () => {
    const directory = await mkdtemp(join(tmpdir(), "resolver-"));
    const resolver = open({
      names: await NameTable.open({ names: [], journal: join(directory, "journal") }),
    });
    await rm(directory, { recursive: true });
    expect(await look("x.wild.test", TYPE.A, resolver)).toEqual({ code: CODE.failure, data: [] });
    expect(denied).toEqual(["x.wild.test limit"]);
  });

  test("a policy that fails is no answer that anybody could use", async () => {
    const failing = open({
      answersName: () => {
        throw new Error("broken");
      },
    });
    expect(await look("a.test", TYPE.A, failing)).toEqual({ code: CODE.failure, data: [] });
  });
});

describe("the form of answers", () => {
  test("repeats number, question and recursion, and speaks with authority", async () => {
    const question = writeQuestion({ id: 0xbeef, name: writeName("a.test") });
    const answer = await open().answer(question, "udp");
    expect(answer?.subarray(12, question.length)).toEqual(question.subarray(12));
    expect(readAnswer(answer)).toMatchObject({
      id: 0xbeef,
      type: "response",
      flag_aa: true,
      flag_tc: false,
      flag_rd: true,
      flag_ra: true,
      additionals: [],
    });
    expect(await ask({ flags: 0 })).toMatchObject({ flag_rd: false });
  });

  test("has an OPT record when the question has one, whatever its options say", async () => {
    const options = [
      writeOptions(),
      writeOptions({ data: Buffer.from("000a0008aabbccddeeff0011", "hex") }),
      writeOptions({ data: Buffer.from("0008ffff", "hex") }),
      writeOptions({ data: Buffer.alloc(1000, 0xff) }),
    ];
    for (const rest of options) {
      const { code, additionals, answers } = await ask({ counts: [1, 0, 0, 1], rest });
      expect(code).toBe(CODE.ok);
      expect(answers).toHaveLength(1);
      expect(additionals).toMatchObject([{ type: "OPT", udpPayloadSize: 1232, ednsVersion: 0, options: [] }]);
    }
  });

  test("refuses a later version of EDNS, and tells its own", async () => {
    const { code, answers, additionals } = await ask({
      counts: [1, 0, 0, 1],
      rest: writeOptions({ version: 1 }),
    });
    expect(code).toBe(CODE.badVersion);
    expect(answers).toEqual([]);
    expect(additionals).toMatchObject([{ type: "OPT", ednsVersion: 0 }]);
  });

  test.each([0, 2, 3, 4, 254, 255, 0x8001])("refuses class %s", async (inClass) => {
    expect(await ask({ class: inClass })).toMatchObject({ code: CODE.refused, answers: [] });
    expect(denied).toEqual([]);
  });

  test("is what a client takes, for all questions that the decoder takes", async () => {
    const label = fc.oneof(
      fc
        .constantFrom("a", "wild", "test", "x", "localhost", "arpa", "ip6", "in-addr", "1", "xn--p1ai")
        .map((text) => Buffer.from(text)),
      fc.uint8Array({ minLength: 1, maxLength: 63 }),
    );
    const resolver = open();
    await fc.assert(
      fc.asyncProperty(
        fc.array(label, { maxLength: 6 }),
        fc.oneof(fc.constantFrom(...Object.values(TYPE)), fc.integer({ min: 0, max: 0xffff })),
        fc.boolean(),
        fc.integer({ min: 0, max: 0xffff }),
        async (labels, type, hasOptions, id) => {
          const rest = hasOptions ? writeOptions() : Buffer.alloc(0);
          const name = writeName(labels);
          const question = writeQuestion({ id, name, type, counts: [1, 0, 0, hasOptions ? 1 : 0], rest });
          const answer = await resolver.answer(question, "udp");
          const { code, answers = [] } = readAnswer(answer);
          expect(answer?.readUInt16BE(0)).toBe(id);
          expect(answer?.length).toBeLessThanOrEqual(512);
          expect(answers.length).toBeLessThanOrEqual(code === CODE.ok ? 1 : 0);
          expect([CODE.ok, CODE.noSuchName]).toContain(name.length > 255 ? CODE.ok : code);
          expect(code === CODE.malformed).toBe(name.length > 255);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

/** The name below in-addr.arpa or ip6.arpa. */
function pointerOf(address: string): string {
  if (!address.includes(":")) return `${address.split(".").toReversed().join(".")}.in-addr.arpa`;
  const [left = "", right = ""] = address.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const zeros = Array.from({ length: 8 - groups(left).length - groups(right).length }, () => "0");
  const nibbles = [...groups(left), ...zeros, ...groups(right)]
    .map((group) => group.padStart(4, "0"))
    .join("");
  return `${nibbles.split("").toReversed().join(".")}.ip6.arpa`;
}
