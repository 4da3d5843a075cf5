import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import type { MachineExit } from "../../host/backends/backend.ts";
import { answerHeartbeat } from "../../host/runner/host-ports.ts";
import { VSOCK_PORT } from "../../wire/ports.ts";
import { type MachineOptions, openGuestMachine } from "../fixtures/guest/guest-bed.ts";
import { compileFixture } from "../native/sandbox.ts";

/** The first build of a machine compiles a kernel. */
const TIMEOUT_MS = 2_400_000;
const MACHINE = { memoryMib: 512, cpus: 1, files: {} };

async function runToItsEnd(options: Partial<MachineOptions>): Promise<MachineExit> {
  await using guest = await openGuestMachine({ ...MACHINE, ...options });
  await guest.machine.onConnect(VSOCK_PORT.heartbeat, answerHeartbeat);
  await guest.machine.start();
  return await guest.machine.exited;
}

async function compiled(fixture: string): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), "guest-init-"));
  try {
    await compileFixture(fixture, join(directory, "init"));
    return await readFile(join(directory, "init"));
  } finally {
    await rm(directory, { recursive: true });
  }
}

describe("a machine that does not come up says why", { timeout: TIMEOUT_MS }, () => {
  test("a kernel that panics, in its own words", async () => {
    const { error } = await runToItsEnd({ files: { init: Buffer.from("no program") } });
    expect(error).toMatchObject({
      code: "E_QEMU_PANIC",
      message: expect.stringMatching(/^kernel panic: .+/),
    });
    expect(JSON.stringify(error?.details["lastLines"])).toContain("Kernel panic - not syncing");
  });

  test("an image that does not fit into its memory", async () => {
    const { error } = await runToItsEnd({ memoryMib: 192 });
    expect(error).toMatchObject({
      code: "E_QEMU_MEMORY",
      message: expect.stringMatching(/^the enclave ran out of memory at boot with 192 MiB: .+/),
    });
  });

  test("a machine that ends early", async () => {
    const { error } = await runToItsEnd({ files: { init: await compiled("restart") } });
    expect(error).toMatchObject({ code: "E_QEMU_ENDED" });
    expect(JSON.stringify(error?.details["lastLines"])).toContain("machine restart");
  });

  test("an init that does not beat the heart in time", async () => {
    const { error } = await runToItsEnd({
      files: { init: await compiled("idle") },
      heartbeatTimeoutMs: 6_000,
    });
    expect(error).toMatchObject({
      code: "E_QEMU_NO_HEARTBEAT",
      message: expect.stringMatching(/^no heartbeat within 6 s of the start \((tcg|kvm)\)$/),
    });
  });

  test("a QEMU that refuses, in its own words", async () => {
    const { error } = await runToItsEnd({ memoryMib: 2 ** 40 });
    expect(error).toMatchObject({
      code: "E_QEMU_FAILED",
      message: expect.stringMatching(/^QEMU ended with status 1: .+/),
    });
  });

  test("a machine that is asked to stop before init listens is killed, and that is no fault", async () => {
    await using guest = await openGuestMachine({ ...MACHINE, files: { init: await compiled("idle") } });
    await guest.machine.start();
    await guest.machine.stop(100);
    expect((await guest.machine.exited).error).toBeUndefined();
  });
});
