/**
 * What waits for room in the guest's receive ring: RSTs that belong to no connection, at most 4096 of them, and the
 * connections that have something to send, in turns of at most 64 KiB.
 */
import {
  VSOCK_HEADER_BYTES,
  VSOCK_OP,
  VSOCK_STREAM,
  type VsockHeader,
  encodeVsockHeader,
} from "../../../../wire/virtio-vsock/vsock-header.ts";
import type { Connection, PacketPlan } from "./connection.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import type { DeviceCounts } from "./device-counts.ts";
import { RoundRobin } from "./round-robin.ts";
import { guestError } from "./virtqueue.ts";

const MAX_RESETS = 4096;
const TURN_BYTES = 64 * 1024;

export class PacketQueue {
  readonly #guestCid: number;
  readonly #counts: DeviceCounts;
  readonly #connections = new RoundRobin<Connection>();
  readonly #headerBytes = new Uint8Array(VSOCK_HEADER_BYTES);
  readonly #headerView = new DataView(this.#headerBytes.buffer);
  #resets: VsockHeader[] = [];
  #nextReset = 0;
  #turnBytes = 0;

  constructor(guestCid: number, counts: DeviceCounts) {
    this.#guestCid = guestCid;
    this.#counts = counts;
  }

  add(connection: Connection): void {
    this.#connections.add(connection);
  }

  remove(connection: Connection): void {
    if (this.#connections.first === connection) this.#turnBytes = 0;
    this.#connections.remove(connection);
  }

  /** The answer to a packet that belongs to no connection. */
  addReset(header: VsockHeader): void {
    if (this.#resets.length - this.#nextReset >= MAX_RESETS) this.#counts.lostResets += 1;
    else this.#resets.push(header);
  }

  dropResets(): void {
    this.#resets = [];
    this.#nextReset = 0;
  }

  /** True if a packet could go; connections that have none after all are taken out of the round. */
  hasPacket(): boolean {
    if (this.#nextReset < this.#resets.length) return true;
    for (;;) {
      const { first } = this.#connections;
      if (first === undefined) return false;
      if (first.planPacket(1) !== undefined) return true;
      this.remove(first);
    }
  }

  /**
   * Writes the next packet; call only after `hasPacket`.
   * @returns how many bytes of the chain are used
   * @throws E_QEMU_VSOCK_GUEST for a chain that no packet fits into
   */
  writePacket(chain: DescriptorChain): number {
    if (chain.readableBytes > 0) throw guestError("it has something to read where packets shall be put");
    const roomBytes = chain.writableBytes - VSOCK_HEADER_BYTES;
    if (roomBytes <= 0) throw guestError(`a packet shall fit into ${chain.writableBytes} bytes`);
    const reset = this.#takeReset();
    if (reset !== undefined) return this.#writeReset(reset, chain);
    const { first } = this.#connections;
    const plan = first?.planPacket(Math.min(roomBytes, TURN_BYTES - this.#turnBytes));
    if (first === undefined || plan === undefined) return 0;
    this.#writeHeader(first, plan, chain);
    first.send(plan, chain);
    this.#counts.bytesToGuest += plan.sizeBytes;
    this.#turnBytes += plan.sizeBytes;
    if (this.#turnBytes >= TURN_BYTES) {
      this.#turnBytes = 0;
      this.#connections.rotate();
    }
    return VSOCK_HEADER_BYTES + plan.sizeBytes;
  }

  #takeReset(): VsockHeader | undefined {
    const reset = this.#resets[this.#nextReset];
    if (reset === undefined) return undefined;
    this.#nextReset += 1;
    if (this.#nextReset === this.#resets.length) this.dropResets();
    return reset;
  }

  /** The RST has the addresses of what it answers, the other way round, whatever they are. */
  #writeReset(refused: VsockHeader, chain: DescriptorChain): number {
    this.#putHeader(chain, {
      sourceCid: refused.destinationCid,
      destinationCid: refused.sourceCid,
      sourcePort: refused.destinationPort,
      destinationPort: refused.sourcePort,
      sizeBytes: 0,
      type: refused.type,
      operation: VSOCK_OP.reset,
      flags: 0,
      bufferSpace: 0,
      consumed: 0,
    });
    return VSOCK_HEADER_BYTES;
  }

  #writeHeader(
    { address, windowBytes, consumed }: Connection,
    plan: PacketPlan,
    chain: DescriptorChain,
  ): void {
    this.#putHeader(chain, {
      sourceCid: address.hostCid,
      destinationCid: this.#guestCid,
      sourcePort: address.hostPort,
      destinationPort: address.guestPort,
      type: VSOCK_STREAM,
      bufferSpace: windowBytes,
      consumed,
      ...plan,
    });
  }

  #putHeader(chain: DescriptorChain, header: VsockHeader): void {
    encodeVsockHeader(header, this.#headerView);
    chain.write(this.#headerBytes, 0, VSOCK_HEADER_BYTES);
  }
}
