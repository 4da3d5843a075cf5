import { describe, expect, test } from "vitest";

import { ConsoleTail, type EndFacts, explainEnd } from "../../../host/backends/qemu/machine-end.ts";
import { checkMemory, countCpus, neededMemoryMib } from "../../../host/backends/qemu/qemu-plan.ts";
import { KitError } from "../../../core/errors.ts";

const facts: EndFacts = {
  status: 0,
  signal: null,
  console: [],
  killedFor: undefined,
  stopAsked: false,
  memoryMib: 512,
};

describe("the end of a virtual machine", () => {
  test.each([
    [
      { console: ["[    1.0] Kernel panic - not syncing: No working init found."] },
      "E_QEMU_PANIC",
      "kernel panic: No working init found.",
    ],
    [
      {
        console: [
          "[    0.9] Initramfs unpacking failed: write error",
          "[    1.0] Kernel panic - not syncing: x",
        ],
      },
      "E_QEMU_MEMORY",
      "the enclave ran out of memory at boot with 512 MiB: Initramfs unpacking failed: write error",
    ],
    [
      { console: ["[    1.0] Kernel panic - not syncing: System is deadlocked on memory"] },
      "E_QEMU_MEMORY",
      "the enclave ran out of memory at boot with 512 MiB: Kernel panic - not syncing: System is deadlocked on memory",
    ],
    [{ status: 137 }, "E_QEMU_KILLED", "QEMU was killed by SIGKILL"],
    [{ status: null, signal: "SIGTERM" }, "E_QEMU_KILLED", "QEMU was killed by SIGTERM"],
    [{}, "E_QEMU_ENDED", "the machine ended early"],
    [
      { status: 1, console: ["qemu: no such device", ""] },
      "E_QEMU_FAILED",
      "QEMU ended with status 1: qemu: no such device",
    ],
    [{ status: 1 }, "E_QEMU_FAILED", "QEMU ended with status 1: it said nothing"],
  ] as const)("%j is told as %s", (change, code, message) => {
    const { error } = explainEnd({ ...facts, ...change });
    expect(error).toMatchObject({ code, message });
  });

  test("is no fault where it was asked for, and has our own reason where we killed it", () => {
    expect(explainEnd({ ...facts, stopAsked: true })).toEqual({ status: 0, signal: null });
    expect(explainEnd({ ...facts, status: 137, stopAsked: true }).error).toBeUndefined();
    const killedFor = new KitError("E_QEMU_NO_HEARTBEAT", "no heartbeat");
    expect(explainEnd({ ...facts, status: 137, killedFor }).error).toBe(killedFor);
  });

  test("comes with the last lines of the console", () => {
    const console = Array.from({ length: 50 }, (_item, index) => `line ${index}`);
    const { error } = explainEnd({ ...facts, console });
    expect(error?.details["lastLines"]).toEqual(console.slice(30));
  });
});

describe("the tail of a console", () => {
  test("has lines without their carriage returns, however they arrive, and no more than it keeps", () => {
    const tail = new ConsoleTail();
    for (const byte of Buffer.from("one\r\ntwo\nthree")) tail.add(Buffer.of(byte));
    expect(tail.lines).toEqual(["one", "two", "three"]);
    tail.add(Buffer.from("x".repeat(1_000_000)));
    for (let index = 0; index < 1_000; index += 1) tail.add(Buffer.from(`${index}\r\r\n`));
    expect(tail.lines).toHaveLength(200);
    expect(tail.lines.at(-1)).toBe("999");
    tail.add(Buffer.from("y".repeat(1_000_000)));
    expect(tail.lines.at(-1)?.length).toBeLessThanOrEqual(300);
  });
});

describe("the resources of a virtual machine", () => {
  test("are refused with the number to set where the image does not fit", () => {
    const image = { ramdiskBytes: 50 * 2 ** 20, unpackedBytes: 150 * 2 ** 20 };
    const needed = neededMemoryMib(image);
    expect(checkMemory({ cpus: 1, memoryBytes: needed * 2 ** 20 }, image)).toBe(needed);
    const less = { cpus: 1, memoryBytes: needed * 2 ** 20 - 1 };
    expect(() => checkMemory(less, image)).toThrow(
      expect.objectContaining({
        code: "E_QEMU_MEMORY",
        message: `the image needs at least ${needed} MiB to boot, and resources.memory is ${needed - 1} MiB`,
        hint: `Set resources: { memory: ${needed}MiB } in the enclave.yaml.`,
      }),
    );
  });

  test("are whole CPUs, at least one, and no more than the host has", () => {
    expect(countCpus({ cpus: 0.25, memoryBytes: 1 })).toBe(1);
    expect(countCpus({ cpus: 1.5, memoryBytes: 1 })).toBeLessThanOrEqual(2);
    expect(countCpus({ cpus: 10_000, memoryBytes: 1 })).toBeLessThan(10_000);
  });
});
