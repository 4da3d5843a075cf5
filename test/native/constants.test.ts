import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { EGRESS_RANGE, OWN_ADDRESS, REDIRECT_PORT, RESOLVER_ADDRESS } from "../../wire/egress-addresses.ts";
import { hostListenerName } from "../../wire/hybrid-vsock.ts";
import { INIT_END_CODES, MAX_INIT_LINE_BYTES } from "../../wire/init-line.ts";
import { NSM_REQUEST_MAX_BYTES, NSM_RESPONSE_MAX_BYTES } from "../../wire/nsm/nsm-limits.ts";
import { HEARTBEAT_BYTE, VSOCK_PORT } from "../../wire/ports.ts";
import { RUNTIME, SUPERVISOR_FD } from "../../wire/runtime-layout.ts";

const HEADER = join(import.meta.dirname, "..", "..", "native", "common", "layout.h");

async function readConstants(): Promise<ReadonlyMap<string, string | number>> {
  const source = await readFile(HEADER, "utf8");
  const rows = source.matchAll(/^#define ([A-Z0-9_]+) (?:"([^"]*)"|(0x[0-9a-f]+|[0-9]+))$/gm);
  return new Map([...rows].map(([, name = "", text, number]) => [name, text ?? Number(number)]));
}

test("the C programs hold the same constants as wire/", async () => {
  const constants = await readConstants();
  const { SUPERVISOR_ARGV_MAX_BYTES, SUPERVISOR_ARGV_MAX_ARGUMENTS, SUPERVISOR_EXIT_REFUSED, ...shared } =
    Object.fromEntries(constants);
  expect(shared).toEqual({
    RUNTIME_NODE: RUNTIME.node,
    RUNTIME_LOADER: RUNTIME.loader,
    RUNTIME_LIBRARIES: RUNTIME.libraries,
    RUNTIME_INITCTL: RUNTIME.initctl,
    RUNTIME_INITCTL_PROGRAM: RUNTIME.initctlProgram,
    RUNTIME_SUPERVISOR_ARGV: RUNTIME.supervisorArgv,
    PORT_HEARTBEAT: VSOCK_PORT.heartbeat,
    PORT_INIT_REPORT: VSOCK_PORT.initReport,
    HEARTBEAT_BYTE,
    PORT_DEVELOPMENT_NSM: VSOCK_PORT.developmentNsm,
    NSM_REQUEST_MAX_BYTES,
    NSM_RESPONSE_MAX_BYTES,
    SUPERVISOR_FD_VSOCK_DIRECTORY: SUPERVISOR_FD.vsockDirectory,
    SUPERVISOR_FD_NOTIFY: SUPERVISOR_FD.notify,
    OWN_ADDRESS,
    LOCAL_RANGE_V4: EGRESS_RANGE.ipv4,
    LOCAL_RANGE_V4_BITS: EGRESS_RANGE.ipv4Bits,
    LOCAL_RANGE_V6: EGRESS_RANGE.ipv6,
    LOCAL_RANGE_V6_BITS: EGRESS_RANGE.ipv6Bits,
    RESOLVER_ADDRESS,
    PORT_REDIRECT_EGRESS: REDIRECT_PORT.egress,
    PORT_REDIRECT_DNS: REDIRECT_PORT.dns,
    VSOCK_HOST_SOCKET_PREFIX: hostListenerName(0).slice(0, -1),
    MAX_INIT_LINE_BYTES,
    MAX_NOTICE_BYTES: 512,
    END_POWEROFF: "poweroff",
    END_SUPERVISOR_CRASH_LOOP: "supervisor_crash_loop",
    END_SUPERVISOR_REFUSED: "supervisor_refused",
    END_SHUTDOWN_TIMEOUT: "shutdown_timeout",
    END_INIT_FAILED: "init_failed",
  });
  expect({ SUPERVISOR_ARGV_MAX_BYTES, SUPERVISOR_ARGV_MAX_ARGUMENTS, SUPERVISOR_EXIT_REFUSED }).toEqual({
    SUPERVISOR_ARGV_MAX_BYTES: 4096,
    SUPERVISOR_ARGV_MAX_ARGUMENTS: 32,
    SUPERVISOR_EXIT_REFUSED: 78,
  });
});

test("every code by which init can end the machine is known to wire/, and the reverse", async () => {
  const constants = await readConstants();
  const codes = [...constants].filter(([name]) => name.startsWith("END_")).map(([, code]) => String(code));
  expect(codes.toSorted()).toEqual([...INIT_END_CODES].toSorted());
});

test("every line of the header that defines a value is understood by this test", async () => {
  const source = await readFile(HEADER, "utf8");
  const defined = source.match(/^#define [A-Z0-9_]+ /gm) ?? [];
  expect(defined.length).toBeGreaterThan(10);
  expect((await readConstants()).size).toBe(defined.length);
});
