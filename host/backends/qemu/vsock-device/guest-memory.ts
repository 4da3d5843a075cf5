/**
 * The memory of a guest, mapped: where a guest's own address or one of the front end's process lies in it. The guest
 * runs on other threads and may change every byte at every moment, so nothing is read from it twice.
 */
import { KitError, toKitError } from "../../../../core/errors.ts";
import type { NativeAddon } from "../../../../native/addon.ts";
import { vhostError } from "../../../../wire/vhost-user/frames.ts";
import type { MemoryRegion } from "../../../../wire/vhost-user/memory-table.ts";

export interface MappedRegion extends MemoryRegion {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
}

export class GuestMemory implements Disposable {
  readonly #addon: NativeAddon;
  readonly #regions: readonly MappedRegion[];
  /** Where the last address was: it is nearly always there again. */
  #recent: MappedRegion | undefined;

  private constructor(addon: NativeAddon, regions: readonly MappedRegion[]) {
    this.#addon = addon;
    this.#regions = regions;
  }

  /**
   * @param descriptors one for each region; they stay the caller's.
   * @throws E_QEMU_VSOCK_FRONT_END if one cannot be mapped; nothing stays mapped then
   */
  static map(
    addon: NativeAddon,
    regions: readonly MemoryRegion[],
    descriptors: readonly number[],
  ): GuestMemory {
    const mapped: MappedRegion[] = [];
    const memory = new GuestMemory(addon, mapped);
    try {
      for (const [index, region] of regions.entries()) {
        const fd = descriptors[index];
        if (fd === undefined) throw vhostError("a memory region has no descriptor");
        const buffer = addon.mapShared(fd, region.fileOffset, region.sizeBytes, true);
        mapped.push({ ...region, buffer, bytes: new Uint8Array(buffer) });
      }
      return memory;
    } catch (error) {
      memory[Symbol.dispose]();
      const message = `the memory of the guest cannot be mapped (${toKitError(error).message})`;
      throw new KitError("E_QEMU_VSOCK_FRONT_END", message, {
        cause: error,
        hint: "The memory must be a sealed memfd: memory-backend-memfd of QEMU, with share=on.",
      });
    }
  }

  /** The region in which the guest's address is. */
  findGuest(address: number): MappedRegion | undefined {
    const recent = this.#recent;
    if (recent !== undefined && contains(recent.guestAddress, recent.sizeBytes, address)) return recent;
    const found = this.#regions.find((region) => contains(region.guestAddress, region.sizeBytes, address));
    if (found !== undefined) this.#recent = found;
    return found;
  }

  /**
   * Bytes at an address of the front end's process, all in one region.
   * @throws E_QEMU_VSOCK_FRONT_END if they are not, or the address is not a multiple of `alignment`
   */
  viewUser(address: number, sizeBytes: number, alignment: number): Uint8Array<ArrayBuffer> {
    const region = this.#regions.find(({ userAddress, sizeBytes: room }) =>
      contains(userAddress, room, address),
    );
    const offset = region === undefined ? 0 : address - region.userAddress;
    if (region === undefined || region.sizeBytes - offset < sizeBytes)
      throw vhostError(`a ring of ${sizeBytes} bytes at 0x${address.toString(16)} is outside of the memory`);
    if (offset % alignment !== 0)
      throw vhostError(`a ring is at 0x${address.toString(16)}, no multiple of ${alignment}`);
    return new Uint8Array(region.buffer, offset, sizeBytes);
  }

  /** Every view of it is empty afterwards. */
  [Symbol.dispose](): void {
    for (const { buffer } of this.#regions) if (buffer.byteLength > 0) this.#addon.unmap(buffer);
  }
}

function contains(start: number, sizeBytes: number, address: number): boolean {
  return address >= start && address - start < sizeBytes;
}
