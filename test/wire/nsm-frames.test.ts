import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { encodeNsmFrame, NsmFrameReader } from "../../wire/nsm/nsm-frames.ts";

const MAX_BYTES = 4096;

function readAll(reader: NsmFrameReader, chunks: readonly Uint8Array[]): Buffer[] {
  const bodies: Buffer[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let body = reader.next(); body !== undefined; body = reader.next()) bodies.push(Buffer.from(body));
  }
  return bodies;
}

function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
}

describe("frames of the development NSM", () => {
  test("have their length before them", () => {
    expect(encodeNsmFrame(Buffer.from("ab")).toString("hex")).toBe("000000026162");
  });

  test("come out whole however the stream is cut", () => {
    const bodies = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 6 });
    fc.assert(
      fc.property(bodies, fc.array(fc.nat()), (sent, places) => {
        const reader = new NsmFrameReader(MAX_BYTES);
        const stream = Buffer.concat(sent.map((body) => encodeNsmFrame(body)));
        expect(readAll(reader, cut(stream, places))).toEqual(sent.map((body) => Buffer.from(body)));
        expect(reader.isInFrame).toBe(false);
      }),
    );
  });

  test("come byte by byte up to the largest", () => {
    const body = Buffer.alloc(MAX_BYTES, 7);
    const reader = new NsmFrameReader(MAX_BYTES);
    const bytes = [...encodeNsmFrame(body)].map((byte) => Uint8Array.of(byte));
    expect(readAll(reader, bytes)).toEqual([body]);
  });

  test.each([0, MAX_BYTES + 1, 0x7fff_ffff, 0xffff_ffff])("a length of %i is refused when it is known", (sizeBytes) => {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(sizeBytes);
    const reader = new NsmFrameReader(MAX_BYTES);
    reader.push(header.subarray(0, 3));
    expect(reader.next()).toBeUndefined();
    expect(reader.isInFrame).toBe(true);
    reader.push(header.subarray(3));
    expect(() => reader.next()).toThrow(expect.objectContaining({ code: "E_NSM_TRANSPORT" }));
  }); // prettier-ignore
});
