import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { decodeVhostHeader, encodeVhostFrame } from "../../wire/vhost-user/frames.ts";
import { decodeMemoryTable, encodeMemoryTable } from "../../wire/vhost-user/memory-table.ts";
import {
  VHOST_REQUEST,
  decodeVhostRequest,
  descriptorsOf,
  encodeConfig,
  encodeRingValue,
  encodeU64,
} from "../../wire/vhost-user/requests.ts";

const request = fc.constantFrom(...Object.values(VHOST_REQUEST), 0, 6, 7, 19, 21, 100);
const PAGE_BYTES = 4096;

function expectRefusal(act: () => unknown): void {
  expect(act).toThrow(expect.objectContaining({ code: "E_QEMU_VSOCK_FRONT_END" }));
}

describe("a vhost-user header", () => {
  test("comes back as it was sent", () => {
    fc.assert(
      fc.property(
        fc.record({ request: fc.nat(), isAnswer: fc.boolean(), needsAnswer: fc.boolean() }),
        fc.uint8Array({ maxLength: 512 }),
        (header, payload) => {
          const frame = encodeVhostFrame(header, payload);
          expect(decodeVhostHeader(frame.subarray(0, 12))).toEqual({
            ...header,
            payloadBytes: payload.length,
          });
          expect(frame.subarray(12)).toEqual(Buffer.from(payload));
        },
      ),
    );
  });

  test.each([
    ["too short", "0100000001000000000000"],
    ["of version 0", "010000000000000000000000"],
    ["of version 2", "010000000200000000000000"],
    ["with unknown flags", "010000001100000000000000"],
    ["with a payload that is too large", "010000000100000001020000"],
  ])("is refused if it is %s", (_, hex) => {
    expectRefusal(() => decodeVhostHeader(Buffer.from(hex, "hex")));
  });
});

describe("a vhost-user request", () => {
  test("of any bytes is a request or a KitError", () => {
    fc.assert(
      fc.property(request, fc.uint8Array({ maxLength: 300 }), (number, payload) => {
        try {
          const decoded = decodeVhostRequest(number, Buffer.from(payload));
          expect(descriptorsOf(decoded)).toBeLessThanOrEqual(8);
        } catch (error) {
          expect(error).toBeInstanceOf(KitError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("is read as QEMU writes it", () => {
    const addresses = Buffer.alloc(40);
    addresses.writeUInt32LE(1, 0);
    for (const [index, value] of [0x1000n, 0x2000n, 0x3000n, 0n].entries())
      addresses.writeBigUInt64LE(value, 8 + index * 8);
    const cases: [number, Buffer, object][] = [
      [VHOST_REQUEST.setFeatures, encodeU64(1n << 32n), { kind: "set-features", features: 1n << 32n }],
      [VHOST_REQUEST.setRingSize, encodeRingValue(1, 128), { kind: "set-ring-size", ring: 1, value: 128 }],
      [
        VHOST_REQUEST.setRingEnabled,
        encodeRingValue(1, 1),
        { kind: "set-ring-enabled", ring: 1, isEnabled: true },
      ],
      [
        VHOST_REQUEST.setRingAddresses,
        addresses,
        {
          kind: "set-ring-addresses",
          ring: 1,
          addresses: { descriptors: 0x1000, used: 0x2000, available: 0x3000 },
        },
      ],
      [
        VHOST_REQUEST.setRingCall,
        encodeU64(0x101n),
        { kind: "set-ring-descriptor", ring: 1, which: "call", hasDescriptor: false },
      ],
      [
        VHOST_REQUEST.getConfig,
        encodeConfig(0, 0, Buffer.alloc(8)),
        { kind: "get-config", offset: 0, sizeBytes: 8, flags: 0 },
      ],
    ];
    for (const [number, payload, expected] of cases)
      expect(decodeVhostRequest(number, payload)).toEqual(expected);
  });

  test.each([
    ["a kick with unknown flags", VHOST_REQUEST.setRingKick, encodeU64(0x200n)],
    ["a kick beyond 32 bits", VHOST_REQUEST.setRingKick, encodeU64(1n << 32n)],
    ["a ring that is enabled twice", VHOST_REQUEST.setRingEnabled, encodeRingValue(0, 2)],
    ["too much configuration", VHOST_REQUEST.getConfig, encodeConfig(0, 0, Buffer.alloc(257))],
    [
      "configuration that is cut off",
      VHOST_REQUEST.getConfig,
      encodeConfig(0, 0, Buffer.alloc(8)).subarray(0, 15),
    ],
    ["addresses beyond 2^53", VHOST_REQUEST.setRingAddresses, Buffer.alloc(40, 0).fill(0xff, 8, 16)],
  ])("is refused: %s", (_, number, payload) => {
    expectRefusal(() => decodeVhostRequest(number, payload));
  });
});

describe("a memory table", () => {
  /** Regions that do not touch, in any order. */
  const regions = fc
    .array(fc.integer({ min: 1, max: 2 ** 40 }), { minLength: 1, maxLength: 8 })
    .map((sizes) => {
      let start = 0;
      return sizes
        .map((sizeBytes) => {
          const region = {
            guestAddress: start,
            sizeBytes,
            userAddress: start + 2 ** 46,
            fileOffset: PAGE_BYTES,
          };
          start += sizeBytes;
          return region;
        })
        .reverse();
    });

  test("comes back as it was sent", () => {
    fc.assert(
      fc.property(regions, (list) => {
        expect(decodeMemoryTable(encodeMemoryTable(list))).toEqual(list);
      }),
    );
  });

  const good = { guestAddress: 0, sizeBytes: PAGE_BYTES, userAddress: 0, fileOffset: 0 };
  test.each([
    ["no region", []],
    [
      "nine regions",
      Array.from({ length: 9 }, (_, index) => ({ ...good, guestAddress: index * PAGE_BYTES })),
    ],
    ["an empty region", [{ ...good, sizeBytes: 0 }]],
    ["a region that begins within a page of its file", [{ ...good, fileOffset: 1 }]],
    ["a region that wraps around", [{ ...good, guestAddress: Number.MAX_SAFE_INTEGER }]],
    ["regions that overlap for the guest", [good, { ...good, userAddress: PAGE_BYTES }]],
    [
      "regions that overlap for the front end",
      [good, { ...good, guestAddress: PAGE_BYTES, userAddress: 4095 }],
    ],
  ])("is refused with %s", (_, list) => {
    expectRefusal(() => decodeMemoryTable(encodeMemoryTable(list)));
  });

  test("is refused with numbers beyond 2^53, or bytes too many or too few", () => {
    const bytes = encodeMemoryTable([good]);
    expectRefusal(() => decodeMemoryTable(Buffer.concat([bytes, Buffer.alloc(1)])));
    expectRefusal(() => decodeMemoryTable(bytes.subarray(0, -1)));
    expectRefusal(() => decodeMemoryTable(Buffer.alloc(7)));
    expectRefusal(() => decodeMemoryTable(Buffer.from(bytes).fill(0xff, 16, 24)));
  });
});
