import { join } from "node:path";
import { expect, test } from "vitest";

import { loadAddon } from "../../../native/addon.ts";
import { runMessageCases } from "../../../scripts/vsock-fuzz/message-cases.ts";
import { RandomSource } from "../../../scripts/vsock-fuzz/random-source.ts";
import { runRingCases } from "../../../scripts/vsock-fuzz/ring-cases.ts";

const addon = loadAddon(join(import.meta.dirname, "..", "..", "..", "native", "build", "vsock.node"));

test("19,000 hostile packets and rings cause nothing but E_QEMU_VSOCK_GUEST", async () => {
  const report = await runRingCases(addon, new RandomSource(1), 19_000);
  // The cases reach what they are meant to reach.
  expect(report.faults).toBeGreaterThan(20);
  expect(report.connections).toBeGreaterThan(500);
  expect(report.bytes).toBeGreaterThan(1_000_000);
});

test("1,000 hostile messages cause nothing but the two codes of the device", async () => {
  expect(await runMessageCases(addon, new RandomSource(1), 1000)).toBeGreaterThan(5);
});
