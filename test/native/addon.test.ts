import { constants } from "node:buffer";
import { open, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";

import { loadAddon, type NativeAddon } from "../../native/addon.ts";
import { eventually } from "../enclave/eventually.ts";

const PATH = join(import.meta.dirname, "..", "..", "native", "build", "vsock.node");
const addon = (): NativeAddon => loadAddon(PATH);

/** What this process has open of a kind; tests beside this one have their own. */
async function countDescriptors(kind: string): Promise<number> {
  const targets = (await readdir("/proc/self/fd")).map(async (fd) =>
    readlink(`/proc/self/fd/${fd}`).catch(() => ""),
  );
  return (await Promise.all(targets)).filter((target) => target.includes(kind)).length;
}

describe("the addon", () => {
  test("is refused by name where it is missing or no addon", () => {
    expect(() => loadAddon("/nonexistent/vsock.node")).toThrow(
      expect.objectContaining({ code: "E_NATIVE_ADDON" }),
    );
    expect(() => loadAddon("/proc/self/exe")).toThrow(expect.objectContaining({ code: "E_NATIVE_ADDON" }));
  });

  test("throws TypeErrors for arguments that it cannot take, and errno for what the kernel refuses", () => {
    const { closeFd, memfd, mapShared, sendMessage, watchReadable, unmap, vsockPeer, eventfd } = addon();
    for (const fd of [-1, 1.5, NaN, 2 ** 40, "3", null, undefined, {}] as unknown[])
      expect(() => Reflect.apply(closeFd, undefined, [fd])).toThrow(TypeError);
    expect(() => Reflect.apply(closeFd, undefined, [])).toThrow(TypeError);
    expect(() => Reflect.apply(sendMessage, undefined, [1, "text"])).toThrow(TypeError);
    expect(() => Reflect.apply(sendMessage, undefined, [1, Buffer.of(1), "fds"])).toThrow(TypeError);
    expect(() => Reflect.apply(watchReadable, undefined, [1, "no function"])).toThrow(TypeError);
    expect(() => unmap(new ArrayBuffer(8))).toThrow(TypeError);
    expect(() => memfd("x", constants.MAX_LENGTH * 4096)).toThrow(TypeError);
    const fd = eventfd();
    expect(() => mapShared(fd, 0, 4096, true)).toThrow(expect.objectContaining({ code: "EPERM" }));
    expect(() => vsockPeer(fd)).toThrow(
      expect.objectContaining({ code: "ENOTSOCK", syscall: "getpeername" }),
    );
    closeFd(fd);
    expect(() => closeFd(1_000_000_000)).toThrow(
      expect.objectContaining({ code: "EBADF", syscall: "close" }),
    );
  });

  test("asks a security module nothing that it does not take, and says what the kernel says of other files", async () => {
    const { nsmRequest } = addon();
    expect(() => Reflect.apply(nsmRequest, undefined, [0])).toThrow(TypeError);
    expect(() => Reflect.apply(nsmRequest, undefined, [0, "text"])).toThrow(TypeError);
    expect(() => Reflect.apply(nsmRequest, undefined, [-1, Buffer.of(1)])).toThrow(TypeError);
    expect(() => nsmRequest(0, Buffer.alloc(0x1001))).toThrow(expect.objectContaining({ code: "EMSGSIZE" }));
    await using file = await open("/dev/null", "r+");
    const asked = [Buffer.alloc(0), Buffer.alloc(0x1000)].map(
      async (bytes) => await nsmRequest(file.fd, bytes),
    );
    for (const one of await Promise.allSettled(asked))
      expect(one).toMatchObject({ status: "rejected", reason: { code: "ENOTTY", syscall: "ioctl" } });
    await expect(nsmRequest(1_000_000_000, Buffer.of(1))).rejects.toMatchObject({ code: "EBADF" });
  });

  test("counts signals of an eventfd and calls back while there are any", async () => {
    const { eventfd, signalEventfd, readEventfd, watchReadable, closeFd } = addon();
    const fd = eventfd();
    expect(readEventfd(fd)).toBe(0);
    signalEventfd(fd);
    signalEventfd(fd);
    const { promise, resolve } = Promise.withResolvers<number>();
    const watch = watchReadable(fd, () => {
      watch.stop();
      resolve(readEventfd(fd));
    });
    expect(await promise).toBe(2);
    watch.stop();
    expect(readEventfd(fd)).toBe(0);
    closeFd(fd);
  });

  test("shares memory between two mappings, at an offset, and none after unmapping", () => {
    const { memfd, mapShared, unmap, closeFd } = addon();
    const fd = memfd("shared", 3 * 4096);
    const whole = mapShared(fd, 0, 3 * 4096, true);
    const end = mapShared(fd, 2 * 4096, 4096, false);
    closeFd(fd);
    new Uint8Array(whole)[2 * 4096 + 5] = 77;
    expect(new Uint8Array(end)[5]).toBe(77);
    Atomics.store(new Int32Array(whole), 2 * 1024, 9);
    expect(Atomics.load(new Int32Array(end), 0)).toBe(9);
    unmap(whole);
    expect(whole.byteLength).toBe(0);
    expect(() => unmap(whole)).toThrow(TypeError);
    expect(new Uint8Array(end)[5]).toBe(77);
    unmap(end);
  });

  test("maps nothing beyond the end of a file, for that would be a trap", () => {
    const { memfd, mapShared, closeFd } = addon();
    const fd = memfd("short", 4096);
    for (const [offset, size] of [
      [0, 8192],
      [4096, 4096],
      [8192, 1],
      [0, 0],
    ] as const)
      expect(() => mapShared(fd, offset, size, false)).toThrow(expect.objectContaining({ code: "EINVAL" }));
    closeFd(fd);
  });

  test("passes bytes and descriptors over a socket", () => {
    const { socketPair, sendMessage, receiveMessage, eventfd, signalEventfd, readEventfd, closeFd } = addon();
    const [left, right] = socketPair();
    expect(receiveMessage(right, 100, 8)).toBeUndefined();
    const fd = eventfd();
    sendMessage(left, Buffer.from("hello"), [fd, fd]);
    const message = receiveMessage(right, 100, 8);
    expect(message?.bytes.toString()).toBe("hello");
    const [first = -1, second = -1] = message?.descriptors ?? [];
    signalEventfd(first);
    expect(readEventfd(second)).toBe(1);
    for (const open of [fd, first, second, left]) closeFd(open);
    expect(receiveMessage(right, 100, 8)).toEqual({ bytes: Buffer.alloc(0), descriptors: [] });
    closeFd(right);
  });

  test("closes descriptors that nobody asked for, also where the kernel had room for one more", async () => {
    const { socketPair, sendMessage, receiveMessage, memfd, closeFd } = addon();
    const [left, right] = socketPair();
    const fd = memfd("unwanted-descriptor", 4096);
    for (const allowed of [0, 1, 2, 3]) {
      sendMessage(
        left,
        Buffer.of(1),
        Array.from({ length: allowed + 1 }, () => fd),
      );
      expect(() => receiveMessage(right, 10, allowed)).toThrow(
        expect.objectContaining({ code: "ETOOMANYREFS" }),
      );
    }
    expect(await countDescriptors("unwanted-descriptor")).toBe(1);
    for (const open of [fd, left, right]) closeFd(open);
  });

  test("says when a socket takes nothing more, and goes on when it does", async () => {
    const { socketPair, sendMessage, receiveMessage, watchWritable, closeFd } = addon();
    const [left, right] = socketPair();
    const fill = (): void => {
      for (;;) sendMessage(left, Buffer.alloc(4096));
    };
    expect(fill).toThrow(expect.objectContaining({ code: expect.stringMatching(/EAGAIN|EMSGSIZE/) }));
    let writable = false;
    const watch = watchWritable(left, () => (writable = true));
    await eventually("writable again", () => (receiveMessage(right, 65_536, 0), writable));
    watch.stop();
    for (const open of [left, right]) closeFd(open);
  });

  test("reports a fault of a callback as Node reports any other, and goes on", async () => {
    const worker = new Worker(
      `const module = { exports: {} };
       process.dlopen(module, ${JSON.stringify(PATH)});
       const { eventfd, signalEventfd, watchReadable, readEventfd, memfd, mapShared } = module.exports;
       const { parentPort } = require("node:worker_threads");
       const fd = eventfd();
       let calls = 0;
       process.on("uncaughtException", (error) => parentPort.postMessage(error.message));
       const watch = watchReadable(fd, () => {
         readEventfd(fd);
         calls += 1;
         if (calls === 1) { signalEventfd(fd); throw new Error("fault"); }
         parentPort.postMessage("second");
       });
       globalThis.kept = mapShared(memfd("kept", 4096), 0, 4096, true);
       signalEventfd(fd);`,
      { eval: true },
    );
    const told: unknown[] = [];
    worker.on("message", (message) => told.push(message));
    await eventually("both callbacks", () => told.length === 2);
    expect(told).toEqual(["fault", "second"]);
    // Ends with a watch and a mapping still there.
    expect(await worker.terminate()).toBe(1);
  });

  test("leaks nothing over a hundred thousand watches, mappings and messages", async () => {
    const {
      socketPair,
      sendMessage,
      receiveMessage,
      eventfd,
      watchReadable,
      closeFd,
      memfd,
      mapShared,
      unmap,
    } = addon();
    const memory = memfd("leak-check", 1 << 20);
    const [left, right] = socketPair();
    for (let round = 0; round < 100; round++) {
      for (let index = 0; index < 1000; index++) {
        const fd = eventfd();
        watchReadable(fd, () => undefined).stop();
        sendMessage(left, Buffer.of(1), [fd]);
        for (const received of receiveMessage(right, 10, 1)?.descriptors ?? []) closeFd(received);
        closeFd(fd);
        unmap(mapShared(memory, 0, 1 << 20, true));
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const open of [memory, left, right]) closeFd(open);
    expect(await countDescriptors("leak-check")).toBe(0);
    expect(await countDescriptors("eventfd")).toBeLessThan(200);
  });
});
