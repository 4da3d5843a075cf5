import { createHash, randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import type { Duplex } from "node:stream";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";

import { SHUTDOWN_BOTH, SHUTDOWN_SEND, VSOCK_OP } from "../../../wire/virtio-vsock/vsock-header.ts";
import { openGuestBed } from "../../fixtures/host/vsock-device/device-bed.ts";
import { type GuestStream, GuestStreams } from "../../fixtures/host/vsock-device/guest-stream.ts";

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

test("64 streams echo at once, each its own bytes", async () => {
  await using bed = await openGuestBed({ hasEventIndex: true });
  const { device, guest } = bed;
  device.onConnect(9000, (socket) => {
    socket.on("error", () => undefined).pipe(socket);
  });
  const streams = new GuestStreams(guest);
  const echo = async (_: unknown, index: number): Promise<void> => {
    const stream = await streams.connect({ hostPort: 9000, guestPort: index + 1 });
    const sent = randomBytes(300_000);
    await stream.write(sent);
    stream.send(VSOCK_OP.shutdown, SHUTDOWN_SEND);
    await guest.until(() => stream.hostShutdown !== 0);
    expect(digest(Buffer.concat(stream.received))).toBe(digest(sent));
  };
  await Promise.all(Array.from({ length: 64 }, echo));
  expect(bed.faults).toEqual([]);
});

test("64 streams that all have much to send get equal parts, and a small one waits for one round at most", async () => {
  await using bed = await openGuestBed({ offersRoom: false });
  const { device, guest } = bed;
  const sockets: Duplex[] = [];
  device.onConnect(9000, (socket) => void sockets.push(socket.on("error", () => undefined)));
  const streams = new GuestStreams(guest);
  const big: GuestStream[] = [];
  const open = (guestPort: number): GuestStream => {
    const stream = streams.add({ hostPort: 9000, guestPort });
    stream.send(VSOCK_OP.request);
    return stream;
  };
  for (let port = 1; port <= 64; port += 1) {
    // Two descriptors of 128 a request: the ring is empty again before the next.
    big.push(open(port));
    await guest.until(() => guest.tx.freeDescriptors === guest.tx.size);
  }
  for (const socket of sockets) socket.write(Buffer.alloc(1_000_000));
  const small = open(1000);
  await guest.until(() => sockets.length === 65);
  sockets[64]?.write("small");
  let largestGap = 0;
  let bigBytesBeforeSmall = 0;
  const receive = guest.onPacket;
  guest.onPacket = (packet) => {
    receive?.(packet);
    const bytes = big.map((stream) => stream.receivedBytes);
    largestGap = Math.max(largestGap, Math.max(...bytes) - Math.min(...bytes));
    if (small.receivedBytes === 0) bigBytesBeforeSmall = bytes.reduce((sum, each) => sum + each, 0);
  };
  guest.offerRoom();
  await guest.until(() => big.every((stream) => stream.receivedBytes === 1_000_000));
  expect(small.receivedBytes).toBe(5);
  expect(largestGap).toBeLessThanOrEqual(2 * 65_536);
  expect(bigBytesBeforeSmall).toBeLessThanOrEqual(64 * 65_536);
});

test("100,000 connections leave no descriptor and no memory behind", { timeout: 240_000 }, async () => {
  await using bed = await openGuestBed({ hasEventIndex: true });
  const { device, guest } = bed;
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  const heapBytes = (): number => {
    if (typeof collect === "function") collect();
    return process.memoryUsage().heapUsed;
  };
  device.onConnect(9000, (socket) => {
    socket.on("error", () => undefined).on("data", (chunk: Buffer) => socket.end(chunk));
  });
  const counts = { answered: 0, closed: 0 };
  guest.onPacket = ({ operation, destinationPort: sourcePort, sourcePort: destinationPort }) => {
    const send = (next: number, flags = 0, payload?: Buffer): void => {
      if (!guest.send({ operation: next, flags, sourcePort, destinationPort }, payload))
        throw new Error("the ring is full");
    };
    if (operation === VSOCK_OP.response) send(VSOCK_OP.data, 0, Buffer.from("hello"));
    if (operation === VSOCK_OP.data) {
      counts.answered += 1;
      send(VSOCK_OP.shutdown, SHUTDOWN_BOTH);
    }
    if (operation === VSOCK_OP.reset) counts.closed += 1;
  };
  const round = async (first: number, count: number): Promise<void> => {
    const end = counts.closed + count;
    for (let port = first; port < first + count; port += 1)
      guest.queue({ operation: VSOCK_OP.request, sourcePort: port, destinationPort: 9000 });
    guest.kick(1);
    await guest.until(() => counts.closed === end);
  };
  const WIDTH = 20;
  await round(1, WIDTH);
  const descriptors = (await readdir("/proc/self/fd")).length;
  const heap = heapBytes();
  for (let done = WIDTH; done < 100_000; done += WIDTH) await round(1 + (done % 60_000), WIDTH);
  expect(counts).toEqual({ answered: 100_000, closed: 100_000 });
  expect(device.stats()).toMatchObject({ connections: 0, unknown: 0, malformed: 0 });
  // Other files of the tests run in this process too.
  expect((await readdir("/proc/self/fd")).length - descriptors).toBeLessThan(100);
  expect(heapBytes() - heap).toBeLessThan(100 * 1024 ** 2);
});
