import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { bootGuest, type Guest } from "../fixtures/guest/guest-bed.ts";
import { EXPECTED_PROBE } from "../fixtures/native/redirect-expected.ts";

/** The first build of a machine compiles a kernel. */
const FIRST_BOOT_MS = 2_400_000;

let guest: Guest;

beforeAll(async () => {
  const program = join(import.meta.dirname, "..", "fixtures", "guest", "vsock-agent.ts");
  guest = await bootGuest({ program, memoryMib: 512, cpus: 2 });
}, FIRST_BOOT_MS);
afterAll(async () => {
  await guest[Symbol.asyncDispose]();
});

describe("in a guest with the kernel of an image", () => {
  test("every connection that leaves loopback goes to the gateway, which learns where to, and all else is refused", async () => {
    expect(guest.console()).not.toContain("no redirection of connections");
    expect(await guest.ask({ do: "probe-redirection" })).toEqual(EXPECTED_PROBE);
  }, 240_000);

  test("the table of connections is larger than the machine's memory would have it", async () => {
    const read = async (path: string) => await guest.ask({ do: "read", path });
    expect(await read("/proc/sys/net/netfilter/nf_conntrack_max")).toBe("262144\n");
    expect(await read("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait")).toBe("1\n");
    expect(await read("/proc/sys/net/ipv4/ip_local_port_range")).toBe("16384\t60999\n");
  });

  test("the resolver is the machine's own", async () => {
    expect(guest.console()).not.toContain("no /etc/resolv.conf");
    expect(await guest.ask({ do: "read", path: "/etc/resolv.conf" })).toBe(
      "nameserver 198.18.0.2\noptions ndots:1 timeout:2 attempts:2\n",
    );
  });
});
