/** Cases for the rings and the connections behind them. */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { ConnectionTable } from "../../host/backends/qemu/vsock-device/connection-table.ts";
import { createCounts } from "../../host/backends/qemu/vsock-device/device-counts.ts";
import { PacketQueue } from "../../host/backends/qemu/vsock-device/packet-queue.ts";
import { Transport } from "../../host/backends/qemu/vsock-device/transport.ts";
import type { NativeAddon } from "../../native/addon.ts";
import { FUZZ_CID, FUZZ_PORTS, HostileGuest } from "./hostile-guest.ts";
import type { RandomSource } from "./random-source.ts";

/** What the host does with what the guest sends to a port: each port another. */
const HABITS: readonly ((socket: Duplex) => void)[] = [
  (socket) => void socket.pipe(socket),
  (socket) => void socket.resume().end("bye"),
  (socket) => void socket.destroy(),
  () => undefined,
  (socket) => void socket.write(Buffer.alloc(300_000)),
  (socket) => void socket.once("data", () => socket.destroy(new Error("enough"))),
  (socket) => void socket.on("data", (chunk: Buffer) => socket.write(chunk.subarray(0, 1))),
];

export interface RingReport {
  readonly faults: number;
  readonly connections: number;
  readonly bytes: number;
}

/**
 * Runs `cases` packets and spoiled rings. Rings that the device gives up are started anew, as by a reboot.
 * @throws whatever is not E_QEMU_VSOCK_GUEST, and an Error for counts or packets that cannot be
 */
export async function runRingCases(
  addon: NativeAddon,
  random: RandomSource,
  cases: number,
): Promise<RingReport> {
  const counts = createCounts();
  const queue = new PacketQueue(FUZZ_CID, counts);
  const state: { fault: unknown; faults: number; sockets: number } = {
    fault: undefined,
    faults: 0,
    sockets: 0,
  };
  const onFault = (error: unknown): void => {
    state.fault = error;
  };
  // Work that the table asks for is done by the next case.
  const table = new ConnectionTable({ guestCid: FUZZ_CID, counts, queue, onReady: () => undefined });
  const transport = new Transport({ queue, table, onFault });
  for (const [port, act] of HABITS.slice(0, FUZZ_PORTS).entries())
    table.setHandler(port, (socket) => {
      state.sockets += 1;
      act(socket.on("error", () => undefined));
    });
  using guest = new HostileGuest(addon, random);
  const restart = (): void => {
    const { rx, tx } = guest.start();
    const call = (): void => undefined;
    transport.setRings({ queue: rx, call }, { queue: tx, call });
  };
  restart();
  for (let count = 0; count < cases; count += 1) {
    if (random.isOnce(40)) guest.spoil();
    else guest.offerPacket();
    if (!random.isOnce(4)) guest.offerRoom();
    transport.run();
    if (state.fault !== undefined) {
      refuseOtherFault(state.fault);
      state.fault = undefined;
      state.faults += 1;
      table.failAll();
      restart();
    }
    if (count % 64 === 0) await nextTurn();
    if (guest.countBadPackets() > 0 && count % 1024 === 0 && state.faults === 0)
      throw new Error(`case ${count}: the device wrote what is no packet`);
  }
  table.failAll();
  await nextTurn();
  if (counts.connections !== 0) throw new Error(`${counts.connections} connections are left`);
  transport.setRings(undefined, undefined);
  await nextTurn();
  return {
    faults: state.faults,
    connections: state.sockets,
    bytes: counts.bytesFromGuest + counts.bytesToGuest,
  };
}

function refuseOtherFault(fault: unknown): void {
  if (!(fault instanceof KitError) || fault.code !== "E_QEMU_VSOCK_GUEST") throw fault;
}

async function nextTurn(): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
}
