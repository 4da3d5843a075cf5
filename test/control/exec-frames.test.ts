import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { ExecFrameDecoder } from "../../control/exec-frames.ts";
import { KitError } from "../../core/errors.ts";
import { MAX_EXEC_FRAME_BYTES } from "../../wire/control.ts";
import { frameOf } from "./fake-gateway.ts";

/** Cuts bytes at the given places, in any order. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const edges = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
}

function decode(pieces: readonly Buffer[]): { stdout: string; stderr: string; isWhole: boolean } {
  const decoder = new ExecFrameDecoder();
  const texts = { stdout: "", stderr: "" };
  for (const piece of pieces)
    for (const { stream, bytes } of decoder.push(piece)) texts[stream] += Buffer.from(bytes).toString("hex");
  return { ...texts, isWhole: decoder.isAtBoundary };
}

describe("frames of an exec stream", () => {
  const Frame = fc.record({ stream: fc.constantFrom(1, 2), bytes: fc.uint8Array({ maxLength: 300 }) });

  test("give back what was framed, however the stream is cut", () => {
    fc.assert(
      fc.property(fc.array(Frame, { maxLength: 20 }), fc.array(fc.nat()), (frames, places) => {
        const whole = Buffer.concat(frames.map(({ stream, bytes }) => frameOf(stream, bytes)));
        const expected = (stream: number): string =>
          frames.map((one) => (one.stream === stream ? Buffer.from(one.bytes).toString("hex") : "")).join("");
        expect(decode(cut(whole, places))).toEqual({
          stdout: expected(1),
          stderr: expected(2),
          isWhole: true,
        });
      }),
    );
  });

  test("any bytes give output or a coded refusal, and never more output than bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.array(fc.nat()), (bytes, places) => {
        try {
          const { stdout, stderr } = decode(cut(Buffer.from(bytes), places));
          expect(stdout.length + stderr.length).toBeLessThanOrEqual(bytes.length * 2);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
          expect(error).toMatchObject({ code: "E_HOST_CONTROL" });
        }
      }),
    );
  });

  test("the largest frame is taken", () => {
    const { stdout } = decode([frameOf(1, Buffer.alloc(MAX_EXEC_FRAME_BYTES, 0x61))]);
    expect(stdout.length).toBe(2 * MAX_EXEC_FRAME_BYTES);
  });

  test.each([
    ["stream 0", [0, 0, 0, 0, 0, 0, 0, 1]],
    ["stream 3", [3, 0, 0, 0, 0, 0, 0, 1]],
    ["spare bytes that are not zero", [1, 0, 1, 0, 0, 0, 0, 1]],
    ["one byte more than the largest frame", [1, 0, 0, 0, 0, 1, 0, 1]],
    ["4 GiB", [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]],
  ])("a header with %s is refused", (_name, header) => {
    expect(() => new ExecFrameDecoder().push(Uint8Array.from(header))).toThrow(
      expect.objectContaining({ code: "E_HOST_CONTROL" }),
    );
  });

  test.each([
    ["in a header", frameOf(1, Buffer.from("abc")).subarray(0, 5)],
    ["in the bytes", frameOf(1, Buffer.from("abc")).subarray(0, 10)],
  ])("a stream that ends %s is known not to be whole", (_name, bytes) => {
    expect(decode([bytes]).isWhole).toBe(false);
  });
});
