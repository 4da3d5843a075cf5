/** A guest of which nothing can be expected: rings in real shared memory, filled with packets that are almost right. */
import { GuestMemory } from "../../host/backends/qemu/vsock-device/guest-memory.ts";
import { Virtqueue } from "../../host/backends/qemu/vsock-device/virtqueue.ts";
import type { NativeAddon } from "../../native/addon.ts";
import {
  VSOCK_HEADER_BYTES,
  decodeVsockHeader,
  encodeVsockHeader,
} from "../../wire/virtio-vsock/vsock-header.ts";
import type { RandomSource } from "./random-source.ts";

export const FUZZ_CID = 16;
export const FUZZ_PORTS = 8;
const RING_ENTRIES = 16;
const LOW_BYTES = 65_536;
const HIGH_BYTES = 1024 * 1024;
const HIGH_ADDRESS = 0x1_0000_0000;
const RX_OFFSET = 0;
const TX_OFFSET = 8192;
const AVAILABLE = 1024;
const USED = 2048;
const RING_BYTES = 4096;
const RX_BUFFER_BYTES = 4096;
const TX_BUFFERS = RING_ENTRIES * RX_BUFFER_BYTES;
const TX_BUFFER_BYTES = 8192;

export class HostileGuest implements Disposable {
  readonly #addon: NativeAddon;
  readonly #random: RandomSource;
  readonly #fd: number;
  readonly #buffer: ArrayBuffer;
  readonly #view: DataView;
  readonly #memory: GuestMemory;
  /** Available indices of both rings. */
  #rxOffered = 0;
  #txOffered = 0;
  #rxSeen = 0;

  constructor(addon: NativeAddon, random: RandomSource) {
    this.#addon = addon;
    this.#random = random;
    this.#fd = addon.memfd("fuzz", LOW_BYTES + HIGH_BYTES);
    this.#buffer = addon.mapShared(this.#fd, 0, LOW_BYTES + HIGH_BYTES, true);
    this.#view = new DataView(this.#buffer);
    const regions = [
      { guestAddress: 0, sizeBytes: LOW_BYTES, userAddress: 0, fileOffset: 0 },
      { guestAddress: HIGH_ADDRESS, sizeBytes: HIGH_BYTES, userAddress: HIGH_ADDRESS, fileOffset: LOW_BYTES },
    ];
    this.#memory = GuestMemory.map(addon, regions, [this.#fd, this.#fd]);
  }

  /** New rings, all in order. */
  start(): { readonly rx: Virtqueue; readonly tx: Virtqueue } {
    new Uint8Array(this.#buffer, 0, LOW_BYTES).fill(0);
    this.#txOffered = 0;
    this.#rxOffered = 0;
    this.#rxSeen = 0;
    const hasEventIndex = this.#random.isOnce(2);
    const rings = [RX_OFFSET, TX_OFFSET].map((offset) => {
      const addresses = { descriptors: offset, available: offset + AVAILABLE, used: offset + USED };
      return new Virtqueue({ memory: this.#memory, size: RING_ENTRIES, addresses, base: 0, hasEventIndex });
    });
    const [rx, tx] = rings;
    if (rx === undefined || tx === undefined) throw new RangeError("two rings");
    return { rx, tx };
  }

  /** Offers all room for packets that is not offered yet. */
  offerRoom(): void {
    const used = this.#view.getUint16(RX_OFFSET + USED + 2, true);
    const taken = (used - this.#rxSeen) & 0xff_ff;
    const room = this.#rxOffered === 0 && used === 0 ? RING_ENTRIES : Math.min(taken, RING_ENTRIES);
    this.#rxSeen = used;
    for (let count = 0; count < room; count += 1) {
      const slot = this.#rxOffered % RING_ENTRIES;
      this.#describe(RX_OFFSET, slot, {
        start: slot * RX_BUFFER_BYTES,
        sizeBytes: RX_BUFFER_BYTES,
        flags: 2,
        next: 0,
      });
      this.#rxOffered = this.#offer(RX_OFFSET, this.#rxOffered, slot);
    }
  }

  /** A packet that may well be one of a connection: ports, CIDs and operations are few. */
  offerPacket(): void {
    const random = this.#random;
    const slot = (this.#txOffered * 2) % RING_ENTRIES;
    const start = TX_BUFFERS + (slot / 2) * TX_BUFFER_BYTES;
    const payloadBytes = random.pick([
      0,
      1,
      random.below(200),
      random.below(TX_BUFFER_BYTES - VSOCK_HEADER_BYTES),
    ]);
    encodeVsockHeader(
      {
        sourceCid: random.isOnce(50) ? random.edge() : FUZZ_CID,
        destinationCid: random.isOnce(50) ? random.edge() : 2 + random.below(2),
        sourcePort: random.below(64),
        destinationPort: random.isOnce(50) ? random.edge() : random.below(FUZZ_PORTS + 1),
        sizeBytes: random.isOnce(50) ? random.edge() : payloadBytes,
        type: random.isOnce(50) ? random.below(70_000) & 0xff_ff : 1,
        operation: random.isOnce(50) ? random.below(65_536) : random.pick([1, 1, 2, 3, 4, 5, 5, 5, 6, 7]),
        flags: random.isOnce(10) ? random.edge() : random.below(4),
        bufferSpace: random.isOnce(10) ? random.edge() : 262_144,
        consumed: random.isOnce(10) ? random.edge() : 0,
      },
      new DataView(this.#buffer, LOW_BYTES + start, VSOCK_HEADER_BYTES),
    );
    const cut = random.isOnce(20) ? random.below(VSOCK_HEADER_BYTES) : VSOCK_HEADER_BYTES;
    this.#describe(TX_OFFSET, slot, { start, sizeBytes: cut, flags: 1, next: slot + 1 });
    const sizeBytes = payloadBytes + VSOCK_HEADER_BYTES - cut;
    this.#describe(TX_OFFSET, slot + 1, { start: start + cut, sizeBytes, flags: 0, next: 0 });
    this.#txOffered = this.#offer(TX_OFFSET, this.#txOffered, slot);
  }

  /** Writes anything anywhere into one of the rings. */
  spoil(): void {
    const random = this.#random;
    const ring = random.pick([RX_OFFSET, TX_OFFSET]);
    switch (random.below(5)) {
      case 0:
        return this.#view.setUint16(ring + AVAILABLE + 2, random.u32() & 0xff_ff, true);
      case 1:
        return this.#view.setUint16(ring + random.below(RING_ENTRIES) * 16 + 12, random.below(8), true);
      case 2:
        return this.#view.setUint16(ring + random.below(RING_ENTRIES) * 16 + 14, random.below(20), true);
      case 3:
        return this.#view.setUint32(
          ring + random.below(RING_ENTRIES) * 16 + random.below(3) * 4,
          random.edge(),
          true,
        );
      default:
        return this.#view.setUint8(ring + random.below(RING_BYTES), random.u32() & 0xff);
    }
  }

  /** Packets that the device wrote and that are not ones. */
  countBadPackets(): number {
    let bad = 0;
    for (let slot = 0; slot < RING_ENTRIES; slot += 1) {
      const view = new DataView(this.#buffer, LOW_BYTES + slot * RX_BUFFER_BYTES, VSOCK_HEADER_BYTES);
      const { sizeBytes, operation } = decodeVsockHeader(view);
      if (sizeBytes > RX_BUFFER_BYTES - VSOCK_HEADER_BYTES || operation > 7) bad += 1;
    }
    return bad;
  }

  #describe(
    ring: number,
    index: number,
    part: {
      readonly start: number;
      readonly sizeBytes: number;
      readonly flags: number;
      readonly next: number;
    },
  ): void {
    const at = ring + index * 16;
    this.#view.setUint32(at, part.start, true);
    this.#view.setUint32(at + 4, 1, true);
    this.#view.setUint32(at + 8, part.sizeBytes, true);
    this.#view.setUint16(at + 12, part.flags, true);
    this.#view.setUint16(at + 14, part.next, true);
  }

  #offer(ring: number, offered: number, head: number): number {
    this.#view.setUint16(ring + AVAILABLE + 4 + (offered % RING_ENTRIES) * 2, head, true);
    const next = (offered + 1) & 0xff_ff;
    this.#view.setUint16(ring + AVAILABLE + 2, next, true);
    return next;
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    this.#addon.unmap(this.#buffer);
    this.#addon.closeFd(this.#fd);
  }
}
