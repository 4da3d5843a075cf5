/**
 * The memory of a guest as SET_MEM_TABLE tells it: u32 count, u32 padding, then for each region four u64: where the
 * guest sees it, its size, where the front end's process sees it, where it begins in its file. One descriptor a region.
 */
import { MAX_VHOST_DESCRIPTORS, vhostError } from "./frames.ts";

const HEAD_BYTES = 8;
const REGION_BYTES = 32;
const PAGE_BYTES = 4096;

/** All numbers are safe integers, and so are the ends of the region in all three spaces. */
export interface MemoryRegion {
  readonly guestAddress: number;
  readonly sizeBytes: number;
  /** In the front end's process. */
  readonly userAddress: number;
  /** A multiple of the size of a page. */
  readonly fileOffset: number;
}

/** @throws E_QEMU_VSOCK_FRONT_END for sizes that do not fit, too many regions, ones that overlap or wrap around */
export function decodeMemoryTable(payload: Buffer): readonly MemoryRegion[] {
  if (payload.length < HEAD_BYTES) throw vhostError("a memory table is cut off");
  const count = payload.readUInt32LE(0);
  if (count === 0 || count > MAX_VHOST_DESCRIPTORS)
    throw vhostError(`a memory table has ${count} regions instead of 1 to ${MAX_VHOST_DESCRIPTORS}`);
  if (payload.length !== HEAD_BYTES + count * REGION_BYTES)
    throw vhostError(`a memory table of ${count} regions has ${payload.length} bytes`);
  const regions = Array.from({ length: count }, (_, index) =>
    decodeRegion(payload, HEAD_BYTES + index * REGION_BYTES),
  );
  for (const key of ["guestAddress", "userAddress"] as const) refuseOverlaps(regions, key);
  return regions;
}

export function encodeMemoryTable(regions: readonly MemoryRegion[]): Buffer {
  const payload = Buffer.alloc(HEAD_BYTES + regions.length * REGION_BYTES);
  payload.writeUInt32LE(regions.length, 0);
  for (const [index, region] of regions.entries()) {
    const numbers = [region.guestAddress, region.sizeBytes, region.userAddress, region.fileOffset];
    for (const [field, value] of numbers.entries())
      payload.writeBigUInt64LE(BigInt(value), HEAD_BYTES + index * REGION_BYTES + field * 8);
  }
  return payload;
}

function decodeRegion(payload: Buffer, offset: number): MemoryRegion {
  const field = (index: number): number => {
    const value = payload.readBigUInt64LE(offset + index * 8);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw vhostError(`0x${value.toString(16)} in a memory table`);
    return Number(value);
  };
  const region = { guestAddress: field(0), sizeBytes: field(1), userAddress: field(2), fileOffset: field(3) };
  const largest = Math.max(region.guestAddress, region.userAddress, region.fileOffset);
  if (region.sizeBytes === 0 || largest > Number.MAX_SAFE_INTEGER - region.sizeBytes)
    throw vhostError(`a memory region has ${region.sizeBytes} bytes from ${largest}`);
  if (region.fileOffset % PAGE_BYTES !== 0)
    throw vhostError(`a memory region begins at byte ${region.fileOffset} of its file, within a page`);
  return region;
}

function refuseOverlaps(regions: readonly MemoryRegion[], key: "guestAddress" | "userAddress"): void {
  const sorted = [...regions].sort((a, b) => a[key] - b[key]);
  for (const [index, region] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next !== undefined && region[key] + region.sizeBytes > next[key])
      throw vhostError(`two memory regions overlap at 0x${next[key].toString(16)}`);
  }
}
