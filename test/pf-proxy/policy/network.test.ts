import { BlockList, isIP } from "node:net";

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  addressBytes,
  canonicalAddressBytes,
  contains,
  formatAddress,
  parseAddress,
  parseNetwork,
} from "../../../pf-proxy/policy/network.ts";
import { outcomeOf } from "./refusal.ts";

const ipv4Bytes = fc.uint8Array({ minLength: 4, maxLength: 4 });
/** Zeros often, as real addresses have them. */
const ipv6Bytes = fc
  .array(
    fc.oneof(
      fc.constant([0, 0]),
      fc.tuple(fc.integer({ max: 255, min: 0 }), fc.integer({ max: 255, min: 0 })),
    ),
    {
      minLength: 8,
      maxLength: 8,
    },
  )
  .map((groups) => Uint8Array.from(groups.flat()));
const anyBytes = fc.oneof(ipv4Bytes, ipv6Bytes);

describe("addresses", () => {
  test.each([
    ["10.0.0.1", "10.0.0.1"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["FD00:EC2::254", "fd00:ec2::254"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
    ["64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe"],
    ["::1.2.3.4", "::102:304"],
    ["::ffff:169.254.169.254", "169.254.169.254"],
    ["::FFFF:a9fe:a9fe", "169.254.169.254"],
    ["0:0:0:0:0:ffff:127.0.0.1", "127.0.0.1"],
    ["::ffff:0:0", "0.0.0.0"],
    ["::ffff:0:127.0.0.1", "::ffff:0:7f00:1"],
  ])("%s is %s", (text, canonical) => {
    expect(parseAddress(text)).toBe(canonical);
  });

  test.each([
    "", ".", ":", ":::", "1", "127.1", "127.0.1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.08", "0x7f.0.0.1", "0x7f000001",
    "2130706433", "0177.0.0.1", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\0", "1.2.3.4\n", "+1.2.3.4", "-1.2.3.4", "1.2.3.4/32", "１.2.3.4",
    "::1%lo", "fe80::1%eth0", "fe80::1%251", "::ffff:127.0.0.1%lo", "[::1]", "::1]", "::1\0", "1::2::3", "12345::", "::g", "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1.2.3", "::1.2.3.256", "::ffff:0x7f.1", "::ffff:127.1", "1.2.3.4::", "::1.2.3.4:5", "example.com",
    `${"0".repeat(60)}::1`, ":".repeat(100_000),
  ])("%j is none", (text) => {
    expect(parseAddress(text)).toBeUndefined();
    expect(canonicalAddressBytes(text)).toBeUndefined();
    expect(() => addressBytes(text)).toThrow(TypeError);
  }); // prettier-ignore

  test("bytes go to text and back, mapped ones to IPv4", () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const text = formatAddress(bytes);
        expect(parseAddress(text)).toBe(text);
        const mapped = bytes.length === 16 && text.includes(".");
        expect(addressBytes(text)).toEqual(mapped ? bytes.slice(12) : bytes);
      }),
    );
  });

  test("the text is what a URL parser writes", () => {
    fc.assert(
      fc.property(ipv6Bytes, (bytes) => {
        const text = formatAddress(bytes);
        fc.pre(text.includes(":"));
        expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
      }),
    );
  });

  test("every spelling of an address has one canonical text", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const canonical = parseAddress(text) ?? "";
        expect(isIP(canonical)).not.toBe(0);
        expect(parseAddress(canonical)).toBe(canonical);
        const url = new URL(`http://[${text.includes(":") ? text : `::ffff:${text}`}]/`).hostname;
        expect(parseAddress(url.slice(1, -1))).toBe(canonical);
      }),
    );
  });

  test("of any text, either an address as Node has it or none", () => {
    const parts = fc.array(fc.constantFrom(":", "::", ".", "1", "ff", "0", "255", "%", "ffff", "g"), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: "binary" }),
          parts.map((list) => list.join("")),
        ),
        (text) => {
          expect(parseAddress(text) !== undefined).toBe(isIP(text) !== 0 && !text.includes("%"));
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("only the canonical text has bytes", () => {
    expect(() => addressBytes("FD00::1")).toThrow(TypeError);
    expect(() => addressBytes("0:0:0:0:0:0:0:1")).toThrow(TypeError);
    expect(() => addressBytes("::ffff:1.2.3.4")).toThrow(TypeError);
    expect(() => formatAddress(new Uint8Array(5))).toThrow(RangeError);
  });
});

describe("networks", () => {
  test.each([
    ["10.0.0.0/8", "10.0.0.0/8", 4],
    ["10.1.2.3", "10.1.2.3/32", 4],
    ["0.0.0.0/0", "0.0.0.0/0", 4],
    ["FD00::/8", "fd00::/8", 6],
    ["::/0", "::/0", 6],
    ["2001:DB8:0::1", "2001:db8::1/128", 6],
    ["64:ff9b::10.0.0.0/104", "64:ff9b::a00:0/104", 6],
  ])("%s is %s", (text, canonical, family) => {
    expect(parseNetwork(text)).toMatchObject({ text: canonical, family });
  });

  test.each([
    "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8/8", "10.0.0.0/8 ", "10.0.0.0/255.0.0.0", "10.0.0.1/8",
    "10/8", "10.0/16", "010.0.0.0/8", "0xa.0.0.0/8", "10.0.0.0/1e1", "10.0.0.0/8\0", "10.0.0.0\n", "fd00::/129", "fd00::1/8", "fd00::%lo/64",
    "[fd00::]/8", "::ffff:0:0/96", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "example.com", "example.com/8", "*", "any", "a".repeat(100_000),
  ])("%j is none", (text) => {
    expect(outcomeOf(() => parseNetwork(text))).toEqual({ code: "E_EGRESS_RULE" });
  }); // prettier-ignore

  test("host bits are refused with the network that was meant", () => {
    expect(() => parseNetwork("10.1.2.3/8")).toThrow("10.0.0.0/8");
    expect(() => parseNetwork("fd00::1/64")).toThrow("fd00::/64");
  });

  test("an address is inside exactly where Node's own block list says so", () => {
    fc.assert(
      fc.property(anyBytes, fc.nat(128), fc.nat(127), (bytes, length, flipped) => {
        const width = bytes.length * 8;
        const bits = Math.min(length, width);
        const masked = bytes.map((byte, at) => byte & ~(0xff >> Math.min(8, Math.max(0, bits - at * 8))));
        const text = formatAddress(masked);
        fc.pre(
          formatAddress(bytes).includes(".") === text.includes(".") && text.includes(".") === (width === 32),
        );
        const network = parseNetwork(`${text}/${bits}`);
        const other = bytes.slice();
        other[(flipped % width) >> 3] = (other[(flipped % width) >> 3] ?? 0) ^ (0x80 >> (flipped % 8));
        const list = new BlockList();
        const family = width === 32 ? "ipv4" : "ipv6";
        list.addSubnet(text, bits, family);
        expect(contains(network, bytes)).toBe(true);
        fc.pre(width === 32 || !formatAddress(other).includes("."));
        expect(contains(network, other)).toBe(list.check(formatAddress(other), family));
      }),
    );
  });

  test("a network of one family holds no address of the other", () => {
    expect(contains(parseNetwork("0.0.0.0/0"), addressBytes("::1"))).toBe(false);
    expect(contains(parseNetwork("::/0"), addressBytes("10.0.0.1"))).toBe(false);
  });
});
