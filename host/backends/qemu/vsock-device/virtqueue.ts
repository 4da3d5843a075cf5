/**
 * The device's side of a split virtqueue (virtio 1.2, section 2.7) in memory that an untrusted guest writes to.
 *
 *   descriptors   size x { u64 address, u32 bytes, u16 flags, u16 next }       chains of buffers, written by the guest
 *   available     u16 flags, u16 index, size x u16 head, u16 used event        what the guest offers
 *   used          u16 flags, u16 index, size x { u32 head, u32 bytes }, u16 available event        what we gave back
 *
 * Indices count for ever modulo 2^16. The used index is stored after the entries it covers, and the wish of the other
 * side is read after that, both with sequential consistency, so that neither side sleeps while the other waits.
 */
import { KitError } from "../../../../core/errors.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { vhostError } from "../../../../wire/vhost-user/frames.ts";
import type { RingAddresses } from "../../../../wire/vhost-user/requests.ts";

/** Feature: both sides say at which index they want to be woken, instead of whether. */
export const FEATURE_EVENT_INDEX = 1n << 29n;
const MAX_RING_ENTRIES = 32_768;

const DESCRIPTOR_BYTES = 16;
const HAS_NEXT = 1;
const IS_WRITABLE = 2;
/** Of the flags of both rings: do not wake me. */
const MUTED = 1;
const U32 = 0x1_0000_0000;
const U16_MASK = 0xff_ff;

export interface VirtqueueOptions {
  readonly memory: GuestMemory;
  /** Number of entries. */
  readonly size: number;
  readonly addresses: RingAddresses;
  /** The available index up to which entries were taken before. */
  readonly base: number;
  readonly hasEventIndex: boolean;
}

export class Virtqueue {
  readonly #memory: GuestMemory;
  readonly #size: number;
  readonly #hasEventIndex: boolean;
  readonly #descriptors: DataView;
  readonly #available: Uint16Array;
  readonly #used: Uint16Array;
  readonly #usedEntries: DataView;
  #taken: number;
  /** The guest's available index as last seen. */
  #offered: number;
  #given: number;
  #published: number;

  /** @throws E_QEMU_VSOCK_FRONT_END for a size that is no power of two up to 32,768, parts outside of the memory */
  constructor({ memory, size, addresses, base, hasEventIndex }: VirtqueueOptions) {
    if (size < 1 || size > MAX_RING_ENTRIES || (size & (size - 1)) !== 0)
      throw vhostError(`a ring has ${size} entries`);
    this.#memory = memory;
    this.#size = size;
    this.#hasEventIndex = hasEventIndex;
    const descriptors = memory.viewUser(addresses.descriptors, size * DESCRIPTOR_BYTES, 16);
    const available = memory.viewUser(addresses.available, 6 + size * 2, 2);
    const used = memory.viewUser(addresses.used, 6 + size * 8, 4);
    this.#descriptors = new DataView(descriptors.buffer, descriptors.byteOffset, descriptors.byteLength);
    this.#available = new Uint16Array(available.buffer, available.byteOffset, available.byteLength / 2);
    this.#used = new Uint16Array(used.buffer, used.byteOffset, used.byteLength / 2);
    this.#usedEntries = new DataView(used.buffer, used.byteOffset, used.byteLength);
    this.#taken = base & U16_MASK;
    this.#offered = this.#taken;
    this.#given = Atomics.load(this.#used, 1);
    this.#published = this.#given;
  }

  /** Where a later ring at the same place goes on. */
  get base(): number {
    return this.#taken;
  }

  /**
   * The next entry the guest offers, into `chain`; false if there is none.
   * @throws E_QEMU_VSOCK_GUEST for a ring or chain that no driver makes; the ring must not be used again
   */
  take(chain: DescriptorChain): boolean {
    if (this.#taken === this.#offered && !this.#look()) return false;
    const head = this.#available[2 + (this.#taken & (this.#size - 1))] ?? 0;
    this.#taken = (this.#taken + 1) & U16_MASK;
    this.#follow(head, chain);
    return true;
  }

  /** Gives an entry back with what was written into it; the guest sees it after `publish`. */
  give(head: number, writtenBytes: number): void {
    const offset = 4 + (this.#given & (this.#size - 1)) * 8;
    this.#usedEntries.setUint32(offset, head, true);
    this.#usedEntries.setUint32(offset + 4, writtenBytes, true);
    this.#given = (this.#given + 1) & U16_MASK;
  }

  /** Shows the guest everything given so far; true if it wants to be woken for it. */
  publish(): boolean {
    const old = this.#published;
    if (old === this.#given) return false;
    this.#published = this.#given;
    Atomics.store(this.#used, 1, this.#given);
    if (!this.#hasEventIndex) return (Atomics.load(this.#available, 0) & MUTED) === 0;
    const event = Atomics.load(this.#available, 2 + this.#size);
    return ((this.#given - event - 1) & U16_MASK) < ((this.#given - old) & U16_MASK);
  }

  /** Saves the guest from kicking while we look by ourselves. With an event index, saying nothing does that. */
  muteKicks(): void {
    if (!this.#hasEventIndex) Atomics.store(this.#used, 0, MUTED);
  }

  /** Asks to be kicked for the next entry; true if one came meanwhile, for which no kick will. */
  askForKick(): boolean {
    if (this.#hasEventIndex) Atomics.store(this.#used, 2 + this.#size * 4, this.#taken);
    else Atomics.store(this.#used, 0, 0);
    return this.#look();
  }

  #look(): boolean {
    this.#offered = Atomics.load(this.#available, 1);
    const count = (this.#offered - this.#taken) & U16_MASK;
    if (count > this.#size) throw guestError(`it offers ${count} entries in a ring of ${this.#size}`);
    return count > 0;
  }

  #follow(head: number, chain: DescriptorChain): void {
    chain.restart(head);
    let index = head;
    for (let step = 0; step < this.#size; step += 1) {
      if (index >= this.#size) throw guestError(`it names descriptor ${index} of ${this.#size}`);
      const at = index * DESCRIPTOR_BYTES;
      const address = this.#descriptors.getUint32(at, true) + this.#descriptors.getUint32(at + 4, true) * U32;
      const sizeBytes = this.#descriptors.getUint32(at + 8, true);
      const flags = this.#descriptors.getUint16(at + 12, true);
      // Indirect tables, the third flag, were not offered.
      if ((flags & ~(HAS_NEXT | IS_WRITABLE)) !== 0) throw guestError(`a descriptor has the flags ${flags}`);
      this.#add(chain, address, sizeBytes, (flags & IS_WRITABLE) !== 0);
      if ((flags & HAS_NEXT) === 0) return;
      index = this.#descriptors.getUint16(at + 14, true);
    }
    throw guestError(`a chain has more than the ${this.#size} descriptors of its ring`);
  }

  /** What is contiguous for the guest may lie in several mappings. */
  #add(chain: DescriptorChain, start: number, sizeBytes: number, isWritable: boolean): void {
    if (isWritable) chain.writableBytes += sizeBytes;
    else if (chain.writableBytes > 0) throw guestError("a chain has something to read after room to write");
    else chain.readableBytes += sizeBytes;
    let address = start;
    for (let left = sizeBytes; left > 0;) {
      const region = this.#memory.findGuest(address);
      if (region === undefined) throw guestError(`${left} bytes at 0x${address.toString(16)} are no memory`);
      const offset = address - region.guestAddress;
      const part = Math.min(left, region.sizeBytes - offset);
      chain.add(region, offset, part);
      address += part;
      left -= part;
    }
  }
}

export function guestError(why: string): KitError {
  return new KitError("E_QEMU_VSOCK_GUEST", `the vsock driver of the guest is broken or hostile: ${why}`);
}
