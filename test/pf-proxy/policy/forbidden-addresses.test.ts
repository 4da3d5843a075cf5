import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { ForbiddenAddresses } from "../../../pf-proxy/policy/forbidden-addresses.ts";
import { addressBytes, formatAddress, parseAddress } from "../../../pf-proxy/policy/network.ts";

const OWN = ["203.0.113.7", "2001:db8::7", "fe80::1234%eth0", "10.9.8.7"];
const forbidden = new ForbiddenAddresses(OWN);

const IPV4_REASONS: readonly (readonly [string, string])[] = [
  ["169.254.169.254", "metadata"],
  ["169.254.170.2", "metadata"],
  ["169.254.170.23", "metadata"],
  ["168.63.129.16", "metadata"],
  ["100.100.100.200", "metadata"],
  ["192.0.0.192", "metadata"],
  ["0.0.0.0", "unspecified"],
  ["0.1.2.3", "unspecified"],
  ["127.0.0.1", "loopback"],
  ["127.255.255.255", "loopback"],
  ["169.254.0.0", "link-local"],
  ["169.254.169.253", "link-local"],
  ["169.254.255.255", "link-local"],
  ["224.0.0.1", "multicast"],
  ["239.255.255.255", "multicast"],
  ["255.255.255.255", "broadcast"],
  ["240.0.0.1", "reserved"],
  ["192.0.0.1", "reserved"],
  ["198.18.0.1", "enclave"],
  ["198.19.255.255", "enclave"],
  ["203.0.113.7", "own address"],
  ["10.9.8.7", "own address"],
];

test.each<readonly [string, string]>([
  ...IPV4_REASONS,
  ["::", "unspecified"],
  ["::1", "loopback"],
  ["fd00:ec2::254", "metadata"],
  ["fd00:ec2::23", "metadata"],
  ["fd20:ce::254", "metadata"],
  ["fe80::1", "link-local"],
  ["febf:ffff::1", "link-local"],
  ["fec0::1", "link-local"],
  ["ff02::1", "multicast"],
  ["ff0e::1", "multicast"],
  ["100::1", "reserved"],
  ["fd50:5ce8:64ff::c612:100", "enclave"],
  ["2001:db8::7", "own address"],
  ["fe80::1234", "own address"],
])("%s is refused: %s", (address, reason) => {
  expect(forbidden.reasonFor(address)).toBe(reason);
});

test.each([
  "1.1.1.1", "8.8.8.8", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0",
  "223.255.255.255", "168.63.129.15", "203.0.113.8", "2001:db8::8", "2606:4700::1111", "2a00:1450:4001::1", "fe00::1", "100:0:0:1::1",
  "64:ff9b::808:808", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7", "::808:808", "2001:db8::5efe:808:808", "64:ff9b:2::7f00:1",
])("%s is nobody's secret", (address) => {
  expect(forbidden.reasonFor(address)).toBeNull();
}); // prettier-ignore

test.each(["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fc00::1"])(
  "%s is private, and rules decide about that",
  (address) => {
    expect(forbidden.reasonFor(address)).toBeNull();
  },
);

test.each([
  "",
  "localhost",
  "::ffff:127.0.0.1",
  "0:0:0:0:0:0:0:1",
  "FE80::1",
  "::1%lo",
  "127.1",
  "0x7f000001",
  "127.0.0.1\0",
])("%j is not the canonical text of an address, and so refused", (text) => {
  expect(forbidden.reasonFor(text)).toBe("not an address");
});

describe("an IPv4 address inside an IPv6 one", () => {
  const inverted = (bytes: readonly number[]): number[] => bytes.map((byte) => byte ^ 0xff);
  const WRAPPERS: readonly (readonly [string, (ipv4: readonly number[]) => readonly number[]])[] = [
    ["mapped", (ipv4) => [...zeros(10), 0xff, 0xff, ...ipv4]],
    ["compatible", (ipv4) => [...zeros(12), ...ipv4]],
    ["translated", (ipv4) => [...zeros(8), 0xff, 0xff, 0, 0, ...ipv4]],
    ["NAT64", (ipv4) => [0, 0x64, 0xff, 0x9b, ...zeros(8), ...ipv4]],
    ["NAT64 of one's own, /96", (ipv4) => [0, 0x64, 0xff, 0x9b, 0, 1, 9, 9, 0, 9, 9, 9, ...ipv4]],
    [
      "NAT64 of one's own, /64",
      ([a, b, c, d]) => [0, 0x64, 0xff, 0x9b, 0, 1, 9, 9, 0, a, b, c, d, 0, 0, 0].map(Number),
    ],
    [
      "NAT64 of one's own, /56",
      ([a, b, c, d]) => [0, 0x64, 0xff, 0x9b, 0, 1, 9, a, 0, b, c, d, 0, 0, 0, 0].map(Number),
    ],
    [
      "NAT64 of one's own, /48",
      ([a, b, c, d]) => [0, 0x64, 0xff, 0x9b, 0, 1, a, b, 0, c, d, 0, 0, 0, 0, 0].map(Number),
    ],
    ["6to4", (ipv4) => [0x20, 2, ...ipv4, ...zeros(9), 1]],
    ["Teredo client", (ipv4) => [0x20, 1, 0, 0, 8, 8, 8, 8, 0, 0, 0xff, 0xff, ...inverted(ipv4)]],
    ["Teredo server", (ipv4) => [0x20, 1, 0, 0, ...ipv4, 0, 0, 0xff, 0xff, ...inverted([8, 8, 8, 8])]],
    ["ISATAP", (ipv4) => [0x20, 1, 0xd, 0xb8, ...zeros(4), 0, 0, 0x5e, 0xfe, ...ipv4]],
    ["ISATAP, unique", (ipv4) => [0x20, 1, 0xd, 0xb8, ...zeros(4), 2, 0, 0x5e, 0xfe, ...ipv4]],
  ];
  const cases = WRAPPERS.flatMap(([how, wrap]) =>
    IPV4_REASONS.filter(([ipv4]) => !(how.includes("own") && ipv4.startsWith("0."))).map(
      ([ipv4, reason]) => ({ how, wrap, ipv4, reason }),
    ),
  );

  test.each(cases)("$how $ipv4 is refused", ({ wrap, ipv4 }) => {
    const address = formatAddress(Uint8Array.from(wrap([...addressBytes(ipv4)])));
    expect(forbidden.reasonFor(address)).not.toBeNull();
  });

  test.each(WRAPPERS)("%s: a public address inside is public", (_how, wrap) => {
    expect(forbidden.reasonFor(formatAddress(Uint8Array.from(wrap([8, 8, 8, 8]))))).toBeNull();
  });

  test.each(WRAPPERS)("%s: the reason is that of the address inside", (_how, wrap) => {
    const address = formatAddress(Uint8Array.from(wrap([...addressBytes("169.254.169.254")])));
    expect(forbidden.reasonFor(address)).toBe("metadata");
  });
});

describe("the metadata service by every spelling", () => {
  test.each([
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "0:0:0:0:0:ffff:169.254.169.254",
    "::169.254.169.254",
    "::a9fe:a9fe",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "FD00:EC2::254",
    "fd00:0ec2:0000:0000:0000:0000:0000:0254",
  ])("%s", (text) => {
    expect(forbidden.reasonFor(parseAddress(text) ?? "")).toBe("metadata");
  });
});

describe("of any address", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  );

  test("more own addresses never let more pass", () => {
    fc.assert(
      fc.property(bytes, fc.array(bytes, { maxLength: 4 }), (raw, own) => {
        const address = formatAddress(raw);
        const fewer = new ForbiddenAddresses([]).reasonFor(address);
        const more = new ForbiddenAddresses([...own.map(formatAddress), "not an address", ""]);
        if (fewer !== null) expect(more.reasonFor(address)).not.toBeNull();
        expect(new ForbiddenAddresses([address]).reasonFor(address)).toBe("own address");
      }),
    );
  });

  test("nothing of the refused IPv4 networks passes", () => {
    const networks = fc.constantFrom([0, 8], [127, 8], [224, 4], [240, 4]);
    fc.assert(
      fc.property(networks, fc.uint8Array({ minLength: 4, maxLength: 4 }), ([first = 0, bits = 0], raw) => {
        const address = Uint8Array.from(raw);
        address[0] = first | ((raw[0] ?? 0) & (0xff >> bits));
        expect(forbidden.reasonFor(formatAddress(address))).not.toBeNull();
      }),
    );
  });
});

function zeros(count: number): number[] {
  return Array.from({ length: count }, () => 0);
}
