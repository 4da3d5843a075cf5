import { once } from "node:events";
import { open, readdir, readlink } from "node:fs/promises";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";

import {
  VHOST_REQUEST,
  encodeConfig,
  encodeRingValue,
  encodeU64,
} from "../../../wire/vhost-user/requests.ts";
import { encodeVhostFrame } from "../../../wire/vhost-user/frames.ts";
import { encodeMemoryTable } from "../../../wire/vhost-user/memory-table.ts";
import { VSOCK_OP } from "../../../wire/virtio-vsock/vsock-header.ts";
import { eventually } from "../../enclave/eventually.ts";
import { openDeviceBed, openGuestBed } from "../../fixtures/host/vsock-device/device-bed.ts";
import { FrontEnd } from "../../fixtures/host/vsock-device/front-end.ts";
import { GUEST_CID, HandDrivenGuest, RX, TX } from "../../fixtures/host/vsock-device/hand-driven-guest.ts";

const NONE = Buffer.alloc(0);

/** Descriptors of the kind that tests pass to a device. Files beside this one may have some too. */
async function countPassed(): Promise<number> {
  const links = (await readdir("/proc/self/fd")).map(async (fd) =>
    readlink(`/proc/self/fd/${fd}`).catch(() => ""),
  );
  return (await Promise.all(links)).filter((link) => link.startsWith("/dev/zero")).length;
}

async function ask(
  frontEnd: FrontEnd,
  request: number,
  payload: Uint8Array = NONE,
): Promise<Buffer | undefined> {
  frontEnd.send(request, payload);
  return await frontEnd.answer();
}

describe("a front end", () => {
  test("is told features, rings and the guest's CID", async () => {
    await using bed = await openDeviceBed();
    using frontEnd = await FrontEnd.connect(bed.addon, bed.socketPath);
    const features = (await ask(frontEnd, VHOST_REQUEST.getFeatures))?.readBigUInt64LE() ?? 0n;
    for (const bit of [29n, 30n, 32n]) expect(features & (1n << bit)).not.toBe(0n);
    expect(await ask(frontEnd, VHOST_REQUEST.getProtocolFeatures)).toEqual(encodeU64(1n | 8n | 512n));
    expect(await ask(frontEnd, VHOST_REQUEST.getRingCount)).toEqual(encodeU64(2n));
    const cid = Buffer.alloc(8, 0);
    cid.writeUInt32LE(GUEST_CID);
    expect(await ask(frontEnd, VHOST_REQUEST.getConfig, encodeConfig(0, 0, Buffer.alloc(8)))).toEqual(
      encodeConfig(0, 0, cid),
    );
    expect(await ask(frontEnd, VHOST_REQUEST.getConfig, encodeConfig(4, 0, Buffer.alloc(8)))).toEqual(
      encodeConfig(4, 0, NONE),
    );
  });

  test("gets an answer to every request that asks for one, once that was agreed on", async () => {
    await using bed = await openDeviceBed();
    using frontEnd = await FrontEnd.connect(bed.addon, bed.socketPath);
    frontEnd.send(VHOST_REQUEST.setOwner, NONE, [], true);
    frontEnd.send(VHOST_REQUEST.setProtocolFeatures, encodeU64(8n), [], true);
    expect(await frontEnd.answer()).toEqual(encodeU64(0n));
    frontEnd.send(VHOST_REQUEST.setOwner, NONE, [], true);
    expect(await frontEnd.answer()).toEqual(encodeU64(0n));
    expect(await ask(frontEnd, VHOST_REQUEST.getRingCount)).toEqual(encodeU64(2n));
  });

  test("may send its messages in pieces", async () => {
    await using bed = await openDeviceBed();
    using frontEnd = await FrontEnd.connect(bed.addon, bed.socketPath);
    const frame = (request: number, payload: Uint8Array): Buffer =>
      encodeVhostFrame({ request, isAnswer: false, needsAnswer: false }, payload);
    const bytes = Buffer.concat([
      frame(VHOST_REQUEST.setProtocolFeatures, encodeU64(8n)),
      frame(VHOST_REQUEST.getRingCount, NONE),
    ]);
    for (const byte of bytes) {
      frontEnd.sendBytes(Buffer.of(byte));
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
    expect(await frontEnd.answer()).toEqual(encodeU64(2n));
  });

  test("is one: another is sent away, and the next is welcome when it is gone", async () => {
    await using bed = await openDeviceBed();
    using first = await FrontEnd.connect(bed.addon, bed.socketPath);
    expect(await ask(first, VHOST_REQUEST.getRingCount)).toBeDefined();
    const second = connect(bed.socketPath);
    second.on("error", () => undefined);
    await once(second, "close");
    expect(await ask(first, VHOST_REQUEST.getRingCount)).toBeDefined();
    first[Symbol.dispose]();
    await eventually("a next one is served", async () => {
      using next = await FrontEnd.connect(bed.addon, bed.socketPath);
      try {
        return await ask(next, VHOST_REQUEST.getRingCount);
      } catch {
        return undefined;
      }
    });
    expect(bed.faults).toEqual([]);
  });

  const REFUSED: readonly [string, number, Buffer, number][] = [
    ["an unknown request", 21, NONE, 1],
    ["a payload that is too long", VHOST_REQUEST.getFeatures, Buffer.alloc(1), 2],
    ["a ring that does not exist", VHOST_REQUEST.setRingSize, encodeRingValue(2, 128), 0],
    ["features that were not offered", VHOST_REQUEST.setFeatures, encodeU64(1n << 28n), 0],
    ["protocol features that were not offered", VHOST_REQUEST.setProtocolFeatures, encodeU64(2n), 0],
    ["a kick without its descriptor", VHOST_REQUEST.setRingKick, encodeU64(0n), 0],
    ["a kick with two descriptors", VHOST_REQUEST.setRingKick, encodeU64(0n), 2],
    ["a kick that shall have none with one", VHOST_REQUEST.setRingKick, encodeU64(256n), 1],
    ["a kick that is no eventfd", VHOST_REQUEST.setRingKick, encodeU64(0n), 1],
    ["a question with a descriptor", VHOST_REQUEST.getFeatures, NONE, 1],
    ["nine descriptors", VHOST_REQUEST.getFeatures, NONE, 9],
    ["memory without descriptors", VHOST_REQUEST.setMemoryTable, table(1), 0],
    ["memory with more descriptors than regions", VHOST_REQUEST.setMemoryTable, table(1), 2],
    ["memory that is no memfd", VHOST_REQUEST.setMemoryTable, table(2), 2],
    ["a log of writes", VHOST_REQUEST.setRingAddresses, Buffer.alloc(40).fill(1, 4, 5), 0],
  ];

  test.each(REFUSED)("that sends %s is let go, and its descriptors are closed", async (...given) => {
    const [, request, payload, count] = given;
    await using bed = await openDeviceBed();
    const zero = await open("/dev/zero");
    const before = await countPassed();
    const descriptors = Array.from({ length: count }, () => zero.fd);
    using frontEnd = await FrontEnd.connect(bed.addon, bed.socketPath);
    if (count <= 8) frontEnd.send(request, payload, descriptors);
    else {
      frontEnd.sendBytes(
        encodeVhostFrame({ request, isAnswer: false, needsAnswer: false }, payload).subarray(0, 4),
        descriptors.slice(8),
      );
      frontEnd.sendBytes(Buffer.alloc(8), descriptors.slice(1));
    }
    expect(await frontEnd.answer()).toBeUndefined();
    await eventually("the fault is told", () => bed.faults.length > 0);
    expect(bed.faults).toMatchObject([{ code: "E_QEMU_VSOCK_FRONT_END" }]);
    expect(await countPassed()).toBe(before);
    await zero.close();
  });

  test("that dies within a message with descriptors leaves nothing open", async () => {
    await using bed = await openDeviceBed();
    const zero = await open("/dev/zero");
    const before = await countPassed();
    const frontEnd = await FrontEnd.connect(bed.addon, bed.socketPath);
    expect(await ask(frontEnd, VHOST_REQUEST.getRingCount)).toBeDefined();
    const frame = encodeVhostFrame(
      { request: VHOST_REQUEST.setMemoryTable, isAnswer: false, needsAnswer: true },
      table(2),
    );
    frontEnd.sendBytes(frame.subarray(0, 40), [zero.fd, zero.fd]);
    await eventually("the descriptors are taken", async () => (await countPassed()) === before + 2);
    frontEnd[Symbol.dispose]();
    await eventually("the fault is told", () => bed.faults.length > 0);
    expect(bed.faults).toMatchObject([{ message: expect.stringContaining("within a message") }]);
    expect(await countPassed()).toBe(before);
    await zero.close();
  });

  test("that dies takes its connections with it, also those that wait for an answer", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const { promise, resolve } = Promise.withResolvers<Duplex>();
    device.onConnect(9000, (socket) => resolve(socket.on("error", () => undefined)));
    guest.send({ operation: VSOCK_OP.request, destinationPort: 9000, sourcePort: 1 });
    await guest.next();
    const connecting = device.connect(5000, AbortSignal.timeout(20_000));
    await guest.next();
    const failed = once(await promise, "error");
    guest.frontEnd[Symbol.dispose]();
    await expect(connecting).rejects.toMatchObject({ code: "E_BACKEND_CONNECT" });
    expect(await failed).toMatchObject([{ code: "ECONNRESET" }]);
    expect(device.stats().connections).toBe(0);
    expect(bed.faults).toEqual([]);
    using next = await HandDrivenGuest.open({ addon: bed.addon, socketPath: bed.socketPath });
    await next.start();
    next.send({ operation: VSOCK_OP.request, destinationPort: 9000, sourcePort: 1 });
    expect(await next.next()).toMatchObject({ operation: VSOCK_OP.response });
  });

  test("may stop a ring and go on later where it was, and change the memory meanwhile", async () => {
    await using bed = await openGuestBed();
    const { device, guest } = bed;
    const errors: unknown[] = [];
    device.onConnect(9000, (socket) => void socket.on("error", (error) => errors.push(error)));
    const ports = { destinationPort: 9000, sourcePort: 1 };
    guest.send({ operation: VSOCK_OP.request, ...ports });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response });
    guest.sendMemory();
    await guest.settle();
    guest.send({ operation: VSOCK_OP.request, ...ports });
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.response });
    const bases: number[] = [];
    for (const ring of [RX, TX]) {
      const answer = await ask(guest.frontEnd, VHOST_REQUEST.getRingBase, encodeRingValue(ring, 0));
      bases.push(answer?.readUInt32LE(4) ?? -1);
    }
    expect(bases).toEqual([2, 2]);
    await eventually("the connection is gone", () => errors.length === 1);
    guest.queue({ operation: VSOCK_OP.request, destinationPort: 1, sourcePort: 7 });
    guest.kick(TX);
    guest.startRing(RX, bases[RX]);
    guest.startRing(TX, bases[TX]);
    expect(await guest.next()).toMatchObject({ operation: VSOCK_OP.reset, destinationPort: 7 });
    expect(bed.faults).toEqual([]);
  });

  test("may set up a ring only in its memory, while it does not run, and with a size of a power of two", async () => {
    for (const change of [
      (guest: HandDrivenGuest) => guest.frontEnd.send(VHOST_REQUEST.setRingSize, encodeRingValue(TX, 64)),
      (guest: HandDrivenGuest) => stopAndSet(guest, VHOST_REQUEST.setRingSize, encodeRingValue(TX, 100)),
      (guest: HandDrivenGuest) => stopAndSet(guest, VHOST_REQUEST.setRingSize, encodeRingValue(TX, 65_536)),
      (guest: HandDrivenGuest) => stopAndSet(guest, VHOST_REQUEST.setRingSize, encodeRingValue(TX, 0)),
      (guest: HandDrivenGuest) => {
        const addresses = guest.ringAddresses(TX);
        addresses.writeUInt32LE(addresses.readUInt32LE(8) + 1, 8);
        stopAndSet(guest, VHOST_REQUEST.setRingAddresses, addresses);
      },
      (guest: HandDrivenGuest) => {
        const addresses = guest.ringAddresses(TX);
        addresses.writeUInt32LE(1024 * 1024 - 16, 16);
        stopAndSet(guest, VHOST_REQUEST.setRingAddresses, addresses);
      },
    ]) {
      await using bed = await openGuestBed();
      change(bed.guest);
      await eventually("the fault is told", () => bed.faults.length > 0);
      expect(bed.faults).toMatchObject([{ code: "E_QEMU_VSOCK_FRONT_END" }]);
    }
  });
});

describe("a device", () => {
  test("that is closed leaves neither its socket nor a connection", async () => {
    const bed = await openGuestBed();
    const { device, guest } = bed;
    const { promise, resolve } = Promise.withResolvers<Duplex>();
    device.onConnect(9000, resolve);
    guest.send({ operation: VSOCK_OP.request, destinationPort: 9000, sourcePort: 1 });
    const failed = once(await promise, "error");
    await device[Symbol.asyncDispose]();
    expect(await failed).toMatchObject([{ code: "ECONNRESET" }]);
    expect(await guest.frontEnd.answer()).toBeUndefined();
    await expect(FrontEnd.connect(bed.addon, bed.socketPath)).rejects.toMatchObject({ code: "ENOENT" });
    await bed[Symbol.asyncDispose]();
  });

  test("cannot be opened twice on one path", async () => {
    await using bed = await openDeviceBed();
    const { openVsockDevice } = await import("../../../host/backends/qemu/vsock-device/vsock-device.ts");
    const { addon, socketPath } = bed;
    await expect(openVsockDevice({ addon, socketPath, guestCid: 5 })).rejects.toMatchObject({
      code: "EADDRINUSE",
    });
    using frontEnd = await FrontEnd.connect(addon, socketPath);
    expect(await ask(frontEnd, VHOST_REQUEST.getRingCount)).toBeDefined();
  });
});

function stopAndSet(guest: HandDrivenGuest, request: number, payload: Uint8Array): void {
  const { frontEnd } = guest;
  frontEnd.send(VHOST_REQUEST.getRingBase, encodeRingValue(TX, 0));
  frontEnd.send(request, payload);
  frontEnd.send(VHOST_REQUEST.setRingKick, encodeU64(BigInt(TX)), [guest.kicks[TX]]);
}

function table(count: number): Buffer {
  return encodeMemoryTable(
    Array.from({ length: count }, (_, index) => {
      const start = index * 65_536;
      return { guestAddress: start, sizeBytes: 65_536, userAddress: start, fileOffset: 0 };
    }),
  );
}
