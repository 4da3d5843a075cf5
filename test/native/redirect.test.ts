import { constants } from "node:fs";
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { rolldown } from "rolldown";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { EXPECTED_PROBE } from "../fixtures/native/redirect-expected.ts";
import { openEquippedSandbox, runInside } from "./execution.ts";
import { type Agent, isRoot, openWorkshop, type Sandbox, type Workshop } from "./sandbox.ts";

const FIXTURES = join(import.meta.dirname, "..", "fixtures", "native");
const ADDON = join(import.meta.dirname, "..", "..", "native", "build", "vsock.node");

let workshop: Workshop;
beforeAll(async () => {
  workshop = await openWorkshop();
  // Where every user may read it.
  await copyFile(process.execPath, join(workshop.directory, "node"), constants.COPYFILE_FICLONE);
  await copyFile(ADDON, join(workshop.directory, "vsock.node"));
  await using bundle = await rolldown({
    input: join(FIXTURES, "redirect-probe-main.ts"),
    platform: "node",
    logLevel: "warn",
  });
  const { output } = await bundle.generate({ format: "esm", codeSplitting: false });
  await writeFile(join(workshop.directory, "probe.mjs"), output[0].code);
});
afterAll(() => workshop[Symbol.asyncDispose]());

interface Opened {
  readonly sandbox: Sandbox;
  readonly agent: Agent;
}

/** Why this kernel cannot, or undefined. */
function lacking({ sandbox }: Opened): string | undefined {
  return /no redirection of connections: (\w+)/.exec(sandbox.stderr)?.[1];
}

describe.each(isRoot ? (["root", "ordinary"] as const) : (["ordinary"] as const))(
  "in the sandbox that %s makes",
  (as) => {
    const open = () => openEquippedSandbox(workshop, as, ["--bind-ro", `${workshop.directory}:/probe`]);

    test("every connection that leaves loopback goes to the gateway, which learns where to, and all else is refused", async ({
      skip,
    }) => {
      const opened = await open();
      await using _ = opened.sandbox;
      const missing = lacking(opened);
      skip(missing !== undefined, `this kernel redirects nothing in a user namespace: ${missing}`);
      const command = ["/probe/node", "/probe/probe.mjs", "/probe/vsock.node"];
      const { status, output } = await runInside(opened.agent, command);
      expect({ status, probe: JSON.parse(output) }).toEqual({ status: 0, probe: EXPECTED_PROBE });
    });

    test("an entry of the kernel's table outlives a connection by a second, and a half-closed one by none", async ({
      skip,
    }) => {
      const opened = await open();
      await using _ = opened.sandbox;
      skip(lacking(opened) !== undefined, "this kernel tracks no connections");
      const folder = "/proc/sys/net/netfilter/nf_conntrack";
      const read = async (name: string) => Number(await opened.agent.ask(`read ${folder}_${name}`));
      expect(await read("tcp_timeout_time_wait")).toBe(1);
      expect(await read("tcp_timeout_close")).toBe(1);
      expect(await read("udp_timeout")).toBe(5);
      const established = await read("tcp_timeout_established");
      expect(await read("tcp_timeout_close_wait")).toBe(established);
      expect(await read("tcp_timeout_fin_wait")).toBe(established);
    });

    test("no client is given a port of the redirection", async () => {
      const opened = await open();
      await using _ = opened.sandbox;
      const range = await opened.agent.ask("read /proc/sys/net/ipv4/ip_local_port_range");
      expect(range.trim().split(/\s+/)).toEqual(["16384", "60999"]);
    });
  },
);
