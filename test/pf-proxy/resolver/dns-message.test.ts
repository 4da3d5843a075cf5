import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { NameTable } from "../../../pf-proxy/names/name-table.ts";
import { readRequest } from "../../../pf-proxy/resolver/dns-message.ts";
import { Resolver } from "../../../pf-proxy/resolver/resolver.ts";
import { CODE, readAnswer, TYPE, writeName, writeOptions, writeQuestion } from "./dns-questions.ts";

const ROOT = Uint8Array.of(0);
const pointerTo = (at: number): Uint8Array => Uint8Array.of(0xc0 | (at >> 8), at & 0xff);
const record = (type: number, data: Uint8Array, name: Uint8Array = ROOT): Buffer =>
  Buffer.concat([name, Buffer.from([type >> 8, type & 0xff, 0, 1, 0, 0, 0, 0, 0, data.length]), data]);

async function codeOf(message: Uint8Array, transport: "udp" | "tcp" = "udp"): Promise<number | "none"> {
  const resolver = new Resolver({
    answersName: () => true,
    names: await NameTable.open({ names: [] }),
    ipv6: true,
    onDenied: () => undefined,
  });
  const answer = await resolver.answer(message, transport);
  return answer === undefined ? "none" : readAnswer(answer).code;
}

describe("malformed questions are refused as such", () => {
  const question = writeQuestion();
  test.each([
    ["no question", writeQuestion({ counts: [0, 0, 0, 0] })],
    ["no question, and no bytes of one", question.subarray(0, 12).fill(0, 4, 6)],
    ["two questions", writeQuestion({ counts: [2, 0, 0, 0], rest: question.subarray(12) })],
    ["two questions, of which one is there", writeQuestion({ counts: [2, 0, 0, 0] })],
    ["65,535 questions", writeQuestion({ counts: [65_535, 0, 0, 0] })],
    ["one question that is not there", writeQuestion().subarray(0, 12)],
    ["an answer", writeQuestion({ counts: [1, 1, 0, 0], rest: record(TYPE.A, Buffer.alloc(4)) })],
    ["an authority", writeQuestion({ counts: [1, 0, 1, 0], rest: record(TYPE.SOA, Buffer.alloc(4)) })],
    ["65,535 answers that are not there", writeQuestion({ counts: [1, 65_535, 0, 0] })],
    ["an OPT that is not there", writeQuestion({ counts: [1, 0, 0, 1] })],
    ["an OPT that is not counted", writeQuestion({ rest: writeOptions() })],
    [
      "two OPTs",
      writeQuestion({ counts: [1, 0, 0, 2], rest: Buffer.concat([writeOptions(), writeOptions()]) }),
    ],
    [
      "an OPT with a name",
      writeQuestion({ counts: [1, 0, 0, 1], rest: record(TYPE.OPT, ROOT, writeName("a")) }),
    ],
    [
      "an OPT that is longer than the message",
      writeQuestion({ counts: [1, 0, 0, 1], rest: writeOptions({ data: Buffer.alloc(9) }).subarray(0, 18) }),
    ],
    [
      "three additional records",
      writeQuestion({
        counts: [1, 0, 0, 3],
        rest: Buffer.concat([1, 2, 3].map(() => record(TYPE.TXT, ROOT))),
      }),
    ],
    ["65,535 additional records", writeQuestion({ counts: [1, 0, 0, 65_535], rest: writeOptions() })],
    ["bytes after the question", writeQuestion({ rest: ROOT })],
    ["bytes after OPT", writeQuestion({ counts: [1, 0, 0, 1], rest: Buffer.concat([writeOptions(), ROOT]) })],
    ["a pointer to itself", writeQuestion({ name: pointerTo(12) })],
    ["a pointer to the header", writeQuestion({ name: pointerTo(0) })],
    ["a pointer forward", writeQuestion({ name: pointerTo(14), rest: writeName("a.test") })],
    ["a pointer beyond the end", writeQuestion({ name: pointerTo(0x3fff) })],
    [
      "a label and a pointer back to it",
      writeQuestion({ name: Buffer.concat([Uint8Array.of(1, 0x61), pointerTo(12)]) }),
    ],
    ["two pointers to each other", writeQuestion({ name: Buffer.concat([pointerTo(14), pointerTo(12)]) })],
    [
      "a pointer in an additional record",
      writeQuestion({ counts: [1, 0, 0, 1], rest: record(TYPE.TXT, ROOT, pointerTo(12)) }),
    ],
    ["a label of type 01", writeQuestion({ name: Uint8Array.of(0x41, 0x61, 0) })],
    ["a label of type 10", writeQuestion({ name: Uint8Array.of(0x81, 0x61, 0) })],
    [
      "a label of 64 bytes",
      writeQuestion({ name: Buffer.concat([Uint8Array.of(64), Buffer.alloc(64, 0x61), ROOT]) }),
    ],
    ["a label beyond the end", writeQuestion({ name: Uint8Array.of(63, 0x61) })],
    [
      "a name of 256 bytes",
      writeQuestion({ name: writeName([63, 63, 63, 62].map((length) => Buffer.alloc(length, 0x61))) }),
    ],
    [
      "a name of 128 labels",
      writeQuestion({ name: writeName(Array.from({ length: 128 }, () => Buffer.from("a"))) }),
    ],
    ["a name without an end", writeQuestion({ name: Buffer.alloc(2000, 1) })],
  ])("%s", async (_title, message) => {
    expect(await codeOf(message)).toBe(CODE.malformed);
    expect(await codeOf(message, "tcp")).toBe(CODE.malformed);
  });

  test("cut off at any byte", async () => {
    const whole = writeQuestion({ counts: [1, 0, 0, 1], rest: writeOptions({ data: Buffer.alloc(12) }) });
    expect(await codeOf(whole)).toBe(CODE.ok);
    for (let length = 0; length < whole.length; length += 1)
      expect(await codeOf(whole.subarray(0, length)), `${length} bytes`).toBe(
        length < 12 ? "none" : CODE.malformed,
      );
  });

  test("longer than the transport has them", async () => {
    const ofLength = (length: number): Buffer => {
      const bare = writeQuestion({ counts: [1, 0, 0, 1], rest: writeOptions() });
      return writeQuestion({
        counts: [1, 0, 0, 1],
        rest: writeOptions({ data: Buffer.alloc(length - bare.length) }),
      });
    };
    expect(await codeOf(ofLength(4096), "udp")).toBe(CODE.ok);
    expect(await codeOf(ofLength(4097), "udp")).toBe(CODE.malformed);
    expect(await codeOf(ofLength(16_384), "tcp")).toBe(CODE.ok);
    expect(await codeOf(ofLength(16_385), "tcp")).toBe(CODE.malformed);
  });
});

describe("what is taken at its limits", () => {
  test.each([
    [
      "a name of 255 bytes",
      { name: writeName([63, 63, 63, 61].map((length) => Buffer.alloc(length, 0x61))) },
    ],
    ["a name of 127 labels", { name: writeName(Array.from({ length: 127 }, () => Buffer.from("a"))) }],
    ["a label of 63 bytes", { name: writeName([Buffer.alloc(63, 0x61)]) }],
  ])("%s", async (_title, fields) => {
    expect(await codeOf(writeQuestion(fields))).toBe(CODE.ok);
  });

  test("a key beside OPT, in either order", async () => {
    const key = record(250, Buffer.alloc(20), writeName("key"));
    for (const rest of [
      [key, writeOptions()],
      [writeOptions(), key],
    ])
      expect(await codeOf(writeQuestion({ counts: [1, 0, 0, 2], rest: Buffer.concat(rest) }))).toBe(CODE.ok);
  });

  test.each([0x0010, 0x0020, 0x0040, 0x0080, 0x0200, 0x0400, 0x000f])(
    "flags that mean nothing: %i",
    async (flag) => {
      expect(await codeOf(writeQuestion({ flags: flag }))).toBe(CODE.ok);
    },
  );
});

describe("what is no question", () => {
  test.each([0x8000, 0x8180, 0x8583, 0xffff])("an answer is not answered: flags %i", async (flags) => {
    expect(await codeOf(writeQuestion({ flags }))).toBe("none");
  });

  test("an answer of our own is not answered, so that two resolvers cannot keep each other busy", async () => {
    const names = await NameTable.open({ names: ["a.test"] });
    const resolver = new Resolver({ answersName: () => true, names, ipv6: true, onDenied: () => undefined });
    for (const message of [
      writeQuestion(),
      writeQuestion({ flags: 0x2000 }),
      writeQuestion({ counts: [2, 0, 0, 0] }),
    ]) {
      const answer = await resolver.answer(message, "udp");
      if (answer === undefined) throw new Error("there is no answer");
      expect(await resolver.answer(answer, "udp")).toBeUndefined();
    }
  });

  test.each([1, 2, 3, 4, 5, 6, 15])("opcode %i is not implemented, and comes back", async (opcode) => {
    const message = writeQuestion({ flags: (opcode << 11) | 0x0100 });
    expect(await codeOf(message)).toBe(CODE.notImplemented);
    const request = readRequest(message, "udp");
    expect(request).toEqual({
      kind: "refused",
      header: { id: 0x1234, kept: (opcode << 11) | 0x0100 },
      code: CODE.notImplemented,
    });
  });
});

describe("any bytes", () => {
  test("are a question, refused or ignored", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.constantFrom("udp", "tcp"), (bytes, transport) => {
        expect(["question", "refused", "ignored"]).toContain(readRequest(bytes, transport).kind);
      }),
      { numRuns: 5000 },
    );
  });

  test("after a good header are answered so that a client can read it", async () => {
    const names = await NameTable.open({ names: [] });
    const resolver = new Resolver({ answersName: () => true, names, ipv6: true, onDenied: () => undefined });
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 0, max: 2 }),
        async (rest, additional) => {
          const header = writeQuestion({ counts: [1, 0, 0, additional] }).subarray(0, 12);
          const answer = await resolver.answer(Buffer.concat([header, rest]), "udp");
          expect(readAnswer(answer).id).toBe(0x1234);
          expect(answer?.length).toBeLessThanOrEqual(512);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test("in place of any byte of a good question change nothing but the answer", async () => {
    const names = await NameTable.open({ names: [] });
    const resolver = new Resolver({ answersName: () => true, names, ipv6: true, onDenied: () => undefined });
    const whole = writeQuestion({ counts: [1, 0, 0, 1], rest: writeOptions({ data: Buffer.alloc(12) }) });
    for (let at = 0; at < whole.length; at += 1)
      for (const value of [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff]) {
        const message = Buffer.from(whole);
        message[at] = value;
        const answer = await resolver.answer(message, "udp");
        const isAnswer = ((message[2] ?? 0) & 0x80) !== 0;
        expect(answer === undefined).toBe(isAnswer);
        if (answer !== undefined) readAnswer(answer);
      }
  });
});
