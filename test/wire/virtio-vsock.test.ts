import fc from "fast-check";
import { expect, test } from "vitest";

import {
  VSOCK_HEADER_BYTES,
  decodeVsockHeader,
  encodeVsockHeader,
} from "../../wire/virtio-vsock/vsock-header.ts";

const u32 = fc.nat({ max: 0xff_ff_ff_ff });
const u16 = fc.nat({ max: 0xff_ff });
const header = fc.record({
  sourceCid: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  destinationCid: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  sourcePort: u32,
  destinationPort: u32,
  sizeBytes: u32,
  type: u16,
  operation: u16,
  flags: u32,
  bufferSpace: u32,
  consumed: u32,
});

test("a header comes back as it was written", () => {
  fc.assert(
    fc.property(header, (fields) => {
      const view = new DataView(new ArrayBuffer(VSOCK_HEADER_BYTES));
      encodeVsockHeader(fields, view);
      expect(decodeVsockHeader(view)).toEqual(fields);
    }),
  );
});

test("any 44 bytes are a header, and fewer are refused with E_QEMU_VSOCK_GUEST", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(4), (bytes, offset) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const decode = (): unknown => decodeVsockHeader(view, offset);
      if (bytes.length - offset >= VSOCK_HEADER_BYTES) expect(decode()).toBeDefined();
      else expect(decode).toThrow(expect.objectContaining({ code: "E_QEMU_VSOCK_GUEST" }));
    }),
  );
});

test("a header is laid out as Linux has it", () => {
  const bytes = Buffer.from(
    "1000000000000000" +
      "0300000000000000" +
      "39300000" +
      "28230000" +
      "05000000" +
      "0100" +
      "0500" +
      "02000000" +
      "00000400" +
      "ffffffff",
    "hex",
  );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  expect(decodeVsockHeader(view)).toEqual({
    sourceCid: 16,
    destinationCid: 3,
    sourcePort: 12_345,
    destinationPort: 9000,
    sizeBytes: 5,
    type: 1,
    operation: 5,
    flags: 2,
    bufferSpace: 262_144,
    consumed: 0xff_ff_ff_ff,
  });
});
