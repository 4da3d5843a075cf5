import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openDeviceProvider } from "../../../attest/nsm/device-provider.ts";
import { AWS_ROOT_SHA256 } from "../../../attest/verify/aws-root.ts";
import { loadAddon, type NativeAddon } from "../../../native/addon.ts";

const addon = loadAddon(join(import.meta.dirname, "..", "..", "..", "native", "build", "vsock.node"));
const NEVER = new AbortController().signal;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "nsm-provider-"));
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

/** Takes requests and is asked for each answer by the test, as the driver takes its time. */
class SlowDevice {
  readonly waiting: ((answer: Buffer) => void)[] = [];
  readonly nsmRequest: NativeAddon["nsmRequest"] = async () =>
    await new Promise((resolve) => this.waiting.push(resolve));
}

/** All that is already due has happened. */
const turn = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve));

describe("the provider of the device", () => {
  test.each(["nsm", "folder/nsm"])("says that this machine has none: %s", async (name) => {
    const path = join(directory, name);
    await expect(openDeviceProvider({ addon, path })).rejects.toMatchObject({
      code: "E_NSM_NO_DEVICE",
      message: `this machine has no Nitro Security Module: ${path} (ENOENT)`,
    });
  });

  test.skipIf(process.getuid?.() === 0)("says that the device is not for this process", async () => {
    const path = join(directory, "closed");
    await writeFile(path, "");
    await chmod(path, 0);
    await expect(openDeviceProvider({ addon, path })).rejects.toMatchObject({ code: "E_NSM_ACCESS" });
  });

  test("says what the kernel says of a file that is no such device", async () => {
    await expect(openDeviceProvider({ addon, path: directory })).rejects.toMatchObject({
      code: "E_NSM_TRANSPORT",
      message: `${directory}: EISDIR`,
    });
    await using provider = await openDeviceProvider({ addon, path: "/dev/null" });
    expect([provider.name, provider.rootSha256]).toEqual(["nitro", AWS_ROOT_SHA256]);
    await expect(provider.exchange(Buffer.of(1), NEVER)).rejects.toMatchObject({
      code: "E_NSM_TRANSPORT",
      message: "/dev/null: ENOTTY",
    });
  });

  test("refuses what no device takes before it asks one", async () => {
    const device = new SlowDevice();
    await using provider = await openDeviceProvider({ addon: device, path: "/dev/null" });
    await expect(provider.exchange(Buffer.alloc(0x1001), NEVER)).rejects.toMatchObject({
      code: "E_NSM_REQUEST_SIZE",
    });
    expect(device.waiting).toEqual([]);
  });

  test("asks one after the other, also after one that failed or was given up", async () => {
    const device = new SlowDevice();
    await using provider = await openDeviceProvider({ addon: device, path: "/dev/null" });
    const ended = new AbortController();
    const first = provider.exchange(Buffer.of(1), ended.signal);
    const second = provider.exchange(Buffer.of(2), ended.signal);
    const third = provider.exchange(Buffer.of(3), NEVER);
    await turn();
    expect(device.waiting).toHaveLength(1);
    ended.abort(new Error("no longer"));
    await expect(first).rejects.toThrow("no longer");
    await expect(second).rejects.toThrow("no longer");
    await turn();
    // The first is with the device, which nobody can stop; the second never gets there.
    expect(device.waiting).toHaveLength(1);
    device.waiting[0]?.(Buffer.of(10));
    await turn();
    expect(device.waiting).toHaveLength(2);
    device.waiting[1]?.(Buffer.of(30));
    expect(await third).toEqual(Buffer.of(30));
  });

  test("closes after the answer that the device owes, and asks for no more", async () => {
    const device = new SlowDevice();
    const provider = await openDeviceProvider({ addon: device, path: "/dev/null" });
    const last = provider.exchange(Buffer.of(1), NEVER);
    await turn();
    const closed = provider[Symbol.asyncDispose]();
    await turn();
    device.waiting[0]?.(Buffer.of(9));
    expect(await last).toEqual(Buffer.of(9));
    await closed;
    await expect(provider.exchange(Buffer.of(1), NEVER)).rejects.toMatchObject({ code: "E_NSM_TRANSPORT" });
    await provider[Symbol.asyncDispose]();
  });
});
