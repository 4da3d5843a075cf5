import fc from "fast-check";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import {
  decodeAnswer,
  decodeGatewaySettings,
  decodeReadPage,
  decodeRequest,
  encodeErrorAnswer,
  encodeFrame,
  FrameDecoder,
  MAX_FRAME_BYTES,
} from "../../wire/supervisor-frames.ts";
import { isKitError } from "./kit-error.ts";

function header(length: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(length);
  return bytes;
}

test("frames come out whole however the stream is cut", () => {
  const values = fc.array(fc.jsonValue(), { maxLength: 5 });
  fc.assert(
    fc.property(values, fc.array(fc.nat(400), { maxLength: 10 }), (all, cuts) => {
      const stream = Buffer.concat(all.map(encodeFrame));
      const edges = [0, ...cuts.filter((cut) => cut < stream.length).sort((a, b) => a - b), stream.length];
      const decoder = new FrameDecoder();
      const decoded = edges
        .slice(1)
        .flatMap((edge, index) => decoder.push(stream.subarray(edges[index], edge)));
      expect(JSON.stringify(decoded)).toBe(JSON.stringify(all));
    }),
  );
});

test("a frame of the largest size is taken, one byte more is refused on both sides", () => {
  const largest = "x".repeat(MAX_FRAME_BYTES - 2);
  expect(new FrameDecoder().push(encodeFrame(largest))).toEqual([largest]);
  expect(() => encodeFrame(`${largest}y`)).toThrow(isKitError("E_ENCLAVE_FRAME"));
  expect(() => new FrameDecoder().push(header(MAX_FRAME_BYTES + 1))).toThrow(isKitError("E_ENCLAVE_FRAME"));
  expect(() => new FrameDecoder().push(header(0))).toThrow(isKitError("E_ENCLAVE_FRAME"));
});

test("any bytes give values or E_ENCLAVE_FRAME", () => {
  const framed = fc.uint8Array({ maxLength: 40 }).map((body) => Buffer.concat([header(body.length), body]));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 40 }), framed), (bytes) => {
      try {
        expect(Array.isArray(new FrameDecoder().push(bytes))).toBe(true);
      } catch (error) {
        expect(error).toEqual(isKitError("E_ENCLAVE_FRAME"));
      }
    }),
    { numRuns: 1000 },
  );
});

test.each([
  { id: 1, method: "hello" },
  { id: 0xff_ff_ff_ff, method: "status" },
  { id: 2, method: "events.read", params: { after: 0, waitMs: 30_000 } },
  { id: 3, method: "logs.read", params: { after: 5, waitMs: 0, limitBytes: 1 } },
  { id: 3, method: "logs.read", params: { after: 5, waitMs: 0, limitBytes: 1, services: ["a"], tail: 0 } },
  { id: 4, method: "service.restart", params: { name: "a" } },
  { id: 5, method: "cancel", params: { id: 4 } },
])("takes the request %j", (request) => {
  expect(decodeRequest({ params: {}, ...request })).toEqual(request);
});

test.each([
  null,
  [],
  {},
  { id: 0, method: "status", params: {} },
  { id: 1.5, method: "status", params: {} },
  { id: 1, method: "reboot", params: {} },
  { id: 1, method: "constructor", params: {} },
  { id: 1, method: "status" },
  { id: 1, method: "status", params: { x: 1 } },
  { id: 1, method: "status", params: {}, extra: 1 },
  { id: 1, method: "events.read", params: { after: -1, waitMs: 0 } },
  { id: 1, method: "events.read", params: { after: 0, waitMs: 30_001 } },
  { id: 1, method: "logs.read", params: { after: 0, waitMs: 0, limitBytes: 1e9 } },
  { id: 1, method: "logs.read", params: { after: 0, waitMs: 0, limitBytes: 1, services: "a" } },
  { id: 1, method: "service.stop", params: { name: 7 } },
])("refuses the request %j", (request) => {
  expect(() => decodeRequest(request)).toThrow(isKitError("E_ENCLAVE_FRAME"));
});

test("any JSON is a request, an answer, settings, a page, or E_ENCLAVE_FRAME", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      for (const decode of [decodeRequest, decodeAnswer, decodeGatewaySettings, decodeReadPage]) {
        expect(() => decode(value)).toThrow(isKitError("E_ENCLAVE_FRAME"));
      }
    }),
  );
});

test("an error crosses with its code, message and hint", () => {
  const refusal = new KitError("E_SERVICE_UNKNOWN", "no service x", { hint: "look" });
  const [value] = new FrameDecoder().push(encodeErrorAnswer(9, refusal));
  const answer = decodeAnswer(value);
  expect(answer).toEqual({ id: 9, error: isKitError("E_SERVICE_UNKNOWN", /no service x/) });
  expect("error" in answer && answer.error.hint).toBe("look");
});
