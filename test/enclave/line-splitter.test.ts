import fc from "fast-check";
import { expect, test } from "vitest";

import { LineSplitter } from "../../enclave/line-splitter.ts";
import { MAX_LOG_LINE_BYTES } from "../../wire/control.ts";

interface Line {
  readonly line: string;
  readonly partial: boolean;
}

function split(...chunks: Uint8Array[]): Line[] {
  const lines: Line[] = [];
  const splitter = new LineSplitter((line, partial) => lines.push({ line, partial }));
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return lines;
}

function texts(...chunks: string[]): string[] {
  return split(...chunks.map((chunk) => Buffer.from(chunk))).map(({ line }) => line);
}

test("gives out lines, empty ones too, and the last one without a newline", () => {
  expect(texts("a\n\nb\r\nc")).toEqual(["a", "", "b", "c"]);
  expect(texts("a\n")).toEqual(["a"]);
  expect(texts("")).toEqual([]);
});

test("joins a line from several chunks", () => {
  expect(texts("one ", "li", "ne\nnext", "\n")).toEqual(["one line", "next"]);
});

test("a line of exactly the limit is whole, one byte more makes a part", () => {
  const full = "x".repeat(MAX_LOG_LINE_BYTES);
  expect(split(Buffer.from(`${full}\n`))).toEqual([{ line: full, partial: false }]);
  expect(split(Buffer.from(`${full}y\n`))).toEqual([
    { line: full, partial: true },
    { line: "y", partial: false },
  ]);
});

test("a part never ends within a character", () => {
  const text = `x${"\u{1f511}".repeat(MAX_LOG_LINE_BYTES / 2)}`;
  const lines = split(Buffer.from(text));
  expect(lines.length).toBeGreaterThan(1);
  expect(lines.map(({ line }) => line).join("")).toBe(text);
  expect(lines.map(({ line }) => Buffer.byteLength(line)).every((size) => size <= MAX_LOG_LINE_BYTES)).toBe(
    true,
  );
});

test("invalid UTF-8 is replaced, also where it fills whole parts", () => {
  expect(split(Uint8Array.of(0x61, 0xff, 0x0a))).toEqual([{ line: "a\ufffd", partial: false }]);
  const noise = split(new Uint8Array(3 * MAX_LOG_LINE_BYTES).fill(0x80));
  expect(noise.map(({ partial }) => partial)).toEqual([true, true, false]);
});

test("an endless line without a newline is held in parts only", () => {
  const lines: Line[] = [];
  const splitter = new LineSplitter((line, partial) => lines.push({ line, partial }));
  for (let index = 0; index < 100; index += 1) splitter.push(Buffer.alloc(MAX_LOG_LINE_BYTES, "z"));
  expect(lines.length).toBe(99);
});

test("how output is cut into chunks changes nothing", () => {
  const bytes = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(200), { maxLength: 8 }), (output, cuts) => {
      const edges = [0, ...cuts.filter((cut) => cut < output.length).sort((a, b) => a - b), output.length];
      const chunks = edges.slice(1).map((edge, index) => output.subarray(edges[index], edge));
      expect(split(...chunks)).toEqual(split(output));
    }),
  );
});
