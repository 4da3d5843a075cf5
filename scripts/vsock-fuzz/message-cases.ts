/** Cases for the messages of front ends: sequences that are almost right, over real sockets with real descriptors. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type Socket, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { KitError } from "../../core/errors.ts";
import { openVsockDevice } from "../../host/backends/qemu/vsock-device/vsock-device.ts";
import type { NativeAddon } from "../../native/addon.ts";
import { encodeVhostFrame } from "../../wire/vhost-user/frames.ts";
import { encodeMemoryTable } from "../../wire/vhost-user/memory-table.ts";
import { VHOST_REQUEST, encodeConfig, encodeRingValue, encodeU64 } from "../../wire/vhost-user/requests.ts";
import type { RandomSource } from "./random-source.ts";

const MEMORY_BYTES = 65_536;
const SESSION_MESSAGES = 24;
const FAULTS = new Set(["E_QEMU_VSOCK_FRONT_END", "E_QEMU_VSOCK_GUEST"]);

interface Message {
  readonly request: number;
  readonly payload: Buffer;
  readonly descriptors: readonly number[];
}

/** @returns how many sessions the device ended. @throws Error for a fault that is not one of the two codes */
export async function runMessageCases(
  addon: NativeAddon,
  random: RandomSource,
  cases: number,
): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), "vsock-fuzz-"));
  const faults: KitError[] = [];
  const memory = addon.memfd("fuzz", MEMORY_BYTES);
  const event = addon.eventfd();
  try {
    const socketPath = join(directory, "device.sock");
    const onFault = (error: KitError): void => void faults.push(error);
    await using device = await openVsockDevice({ socketPath, addon, guestCid: 16, onFault });
    device.onConnect(1, (socket) => void socket.on("error", () => undefined).resume());
    for (let count = 0; count < cases; count += SESSION_MESSAGES)
      await runSession({ addon, random, socketPath, memory, event });
  } finally {
    for (const fd of [memory, event]) addon.closeFd(fd);
    await rm(directory, { recursive: true, force: true });
  }
  const strange = faults.find(({ code }) => !FAULTS.has(code));
  if (strange !== undefined) throw strange;
  return faults.length;
}

interface Session {
  readonly addon: NativeAddon;
  readonly random: RandomSource;
  readonly socketPath: string;
  readonly memory: number;
  readonly event: number;
}

/** One front end that sends what it may and then something else, until it is let go or has enough. */
async function runSession({ addon, random, socketPath, memory, event }: Session): Promise<void> {
  const socket = connect(socketPath);
  socket.on("error", () => undefined).resume();
  await once(socket, "connect");
  const fd = descriptorOf(socket);
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.once("close", () => resolve());
  try {
    for (let count = 0; count < SESSION_MESSAGES; count += 1) {
      const message = nextMessage(random, count, { memory, event });
      const frame = encodeVhostFrame(
        { request: message.request, isAnswer: random.isOnce(100), needsAnswer: random.isOnce(2) },
        message.payload,
      );
      if (random.isOnce(60)) frame[random.below(frame.length)] = random.u32() & 0xff;
      addon.sendMessage(fd, random.isOnce(200) ? frame.subarray(0, -1) : frame, message.descriptors);
      if (random.isOnce(4)) addon.signalEventfd(event);
    }
  } catch {
    // It was let go meanwhile.
  }
  socket.end();
  await closed;
}

function nextMessage(
  random: RandomSource,
  step: number,
  { memory, event }: { readonly memory: number; readonly event: number },
): Message {
  const ring = random.isOnce(40) ? random.below(300) : step & 1;
  const size = random.isOnce(20) ? random.edge() : 1 << random.below(6);
  const start = random.isOnce(20) ? random.edge() : 0x1000;
  const region = { guestAddress: 0, sizeBytes: MEMORY_BYTES, userAddress: 0, fileOffset: 0 };
  const addresses = Buffer.alloc(40);
  addresses.writeUInt32LE(ring, 0);
  for (let part = 0; part < 3; part += 1)
    addresses.writeBigUInt64LE(BigInt(start + part * 0x1000 + (step & 1) * 0x4000), 8 + part * 8);
  const few = random.isOnce(40) ? [event] : [];
  const plain: readonly [Message, ...Message[]] = [
    {
      request: VHOST_REQUEST.setFeatures,
      payload: encodeU64(random.isOnce(20) ? 1n << 40n : 5n << 30n),
      descriptors: few,
    },
    { request: VHOST_REQUEST.setProtocolFeatures, payload: encodeU64(8n), descriptors: few },
    { request: VHOST_REQUEST.setMemoryTable, payload: encodeMemoryTable([region]), descriptors: [memory] },
    { request: VHOST_REQUEST.setRingSize, payload: encodeRingValue(ring, size), descriptors: few },
    { request: VHOST_REQUEST.setRingBase, payload: encodeRingValue(ring, 0), descriptors: few },
    { request: VHOST_REQUEST.setRingAddresses, payload: addresses, descriptors: few },
    {
      request: VHOST_REQUEST.setRingKick,
      payload: encodeU64(BigInt(ring)),
      descriptors: [random.isOnce(40) ? memory : event],
    },
    {
      request: VHOST_REQUEST.setRingCall,
      payload: encodeU64(BigInt(ring)),
      descriptors: [random.isOnce(40) ? memory : event],
    },
    {
      request: VHOST_REQUEST.setRingEnabled,
      payload: encodeRingValue(ring, random.below(2)),
      descriptors: few,
    },
    { request: VHOST_REQUEST.getRingBase, payload: encodeRingValue(ring, 0), descriptors: few },
    {
      request: VHOST_REQUEST.getConfig,
      payload: encodeConfig(random.below(10), 0, Buffer.alloc(random.below(10))),
      descriptors: few,
    },
    { request: random.below(45), payload: Buffer.alloc(random.below(40)), descriptors: few },
  ];
  // The first eleven in their order, as a front end begins; then any.
  const inOrder = plain[step >> 1];
  return inOrder !== undefined && step < 20 ? inOrder : random.pick(plain);
}

/** Node has no public way to it. */
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  if (typeof fd !== "number") throw new TypeError("the socket has no descriptor");
  return fd;
}
