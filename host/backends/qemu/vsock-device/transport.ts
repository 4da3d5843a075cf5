/**
 * Moves packets between the guest's two rings and the connections. Work is done in turns of a bounded size, so that
 * a guest that sends without end leaves the event loop to others.
 */
import type { ConnectionTable } from "./connection-table.ts";
import { DescriptorChain } from "./descriptor-chain.ts";
import type { PacketQueue } from "./packet-queue.ts";
import type { Virtqueue } from "./virtqueue.ts";

const MAX_TURN_PACKETS = 256;
const MAX_TURN_BYTES = 1024 * 1024;

/** A ring that runs. */
export interface RunningRing {
  readonly queue: Virtqueue;
  /** Wakes the guest. */
  readonly call: () => void;
}

export interface TransportOptions {
  readonly queue: PacketQueue;
  readonly table: ConnectionTable;
  /** A ring is broken: both are forgotten already. */
  readonly onFault: (error: unknown) => void;
}

export class Transport {
  readonly #options: TransportOptions;
  readonly #chain = new DescriptorChain();
  #toGuest: RunningRing | undefined;
  #fromGuest: RunningRing | undefined;
  #isScheduled = false;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** True if the guest's driver is there. */
  get isRunning(): boolean {
    return this.#toGuest !== undefined && this.#fromGuest !== undefined;
  }

  /** Which rings run from now on; a ring that does not is not touched any more. */
  setRings(toGuest: RunningRing | undefined, fromGuest: RunningRing | undefined): void {
    this.#toGuest = toGuest;
    this.#fromGuest = fromGuest;
    this.schedule();
  }

  /** A turn soon; everything until then is done in the same. */
  schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.run();
    });
  }

  /** A turn now. */
  run(): void {
    try {
      const isSending = this.#takePackets();
      const isReceiving = this.#putPackets();
      if (isSending || isReceiving) this.schedule();
    } catch (error) {
      this.#toGuest = undefined;
      this.#fromGuest = undefined;
      this.#options.onFault(error);
    }
  }

  /** @returns true if there may be more. */
  #takePackets(): boolean {
    const ring = this.#fromGuest;
    if (ring === undefined) return false;
    const { queue } = ring;
    let bytes = 0;
    let packets = 0;
    queue.muteKicks();
    while (packets < MAX_TURN_PACKETS && bytes < MAX_TURN_BYTES && queue.take(this.#chain)) {
      this.#options.table.receive(this.#chain);
      queue.give(this.#chain.head, 0);
      bytes += this.#chain.readableBytes;
      packets += 1;
    }
    if (queue.publish()) ring.call();
    return packets === MAX_TURN_PACKETS || bytes >= MAX_TURN_BYTES || queue.askForKick();
  }

  #putPackets(): boolean {
    const ring = this.#toGuest;
    const packets = this.#options.queue;
    if (ring === undefined || !packets.hasPacket()) return false;
    const { queue } = ring;
    let bytes = 0;
    let count = 0;
    queue.muteKicks();
    while (
      count < MAX_TURN_PACKETS &&
      bytes < MAX_TURN_BYTES &&
      packets.hasPacket() &&
      this.#takeRoom(queue)
    ) {
      const written = packets.writePacket(this.#chain);
      queue.give(this.#chain.head, written);
      bytes += written;
      count += 1;
    }
    if (queue.publish()) ring.call();
    return count === MAX_TURN_PACKETS || bytes >= MAX_TURN_BYTES;
  }

  /** Where there is none, the guest is asked to kick when there is some again. */
  #takeRoom(queue: Virtqueue): boolean {
    return queue.take(this.#chain) || (queue.askForKick() && queue.take(this.#chain));
  }
}
