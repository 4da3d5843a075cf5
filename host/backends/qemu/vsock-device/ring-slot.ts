/** One ring as a front end sets it up, piece by piece, and the descriptors that go with it. */
import type { NativeAddon, Watch } from "../../../../native/addon.ts";
import { vhostError } from "../../../../wire/vhost-user/frames.ts";
import type { RingAddresses, RingDescriptor } from "../../../../wire/vhost-user/requests.ts";
import type { GuestMemory } from "./guest-memory.ts";
import type { RunningRing } from "./transport.ts";
import { Virtqueue } from "./virtqueue.ts";

export interface RingSlotOptions {
  readonly addon: NativeAddon;
  readonly onKick: () => void;
  /** A descriptor is not what it should be. */
  readonly onFault: (error: unknown) => void;
}

export class RingSlot implements Disposable {
  size = 0;
  base = 0;
  addresses: RingAddresses | undefined;
  isEnabled = true;
  readonly #options: RingSlotOptions;
  readonly #descriptors = new Map<RingDescriptor, number>();
  #watch: Watch | undefined;
  #queue: Virtqueue | undefined;

  constructor(options: RingSlotOptions) {
    this.#options = options;
  }

  /** Takes the descriptor over, in the place of the one before. */
  setDescriptor(which: RingDescriptor, fd: number): void {
    this.dropDescriptor(which);
    this.#descriptors.set(which, fd);
    if (which === "kick") this.#watch = this.#options.addon.watchReadable(fd, () => this.#onKick(fd));
    // Whatever was said to the old one may not have been heard.
    if (which === "call") this.#options.addon.signalEventfd(fd);
  }

  dropDescriptor(which: RingDescriptor): void {
    if (which === "kick") {
      this.#watch?.stop();
      this.#watch = undefined;
    }
    const fd = this.#descriptors.get(which);
    if (this.#descriptors.delete(which) && fd !== undefined) this.#options.addon.closeFd(fd);
  }

  /** True from its first kick descriptor until `stop`. */
  get isStarted(): boolean {
    return this.#watch !== undefined;
  }

  /**
   * The ring if everything is there that it needs. The same object comes until the memory changes.
   * @throws E_QEMU_VSOCK_FRONT_END for parts that are not in the memory
   */
  run(memory: GuestMemory | undefined, hasEventIndex: boolean): RunningRing | undefined {
    const { addresses, base, size } = this;
    if (!this.isStarted || !this.isEnabled || memory === undefined || addresses === undefined)
      return undefined;
    this.#queue ??= new Virtqueue({ memory, size, addresses, base, hasEventIndex });
    return { queue: this.#queue, call: () => this.#call() };
  }

  /** Forgets the views of the memory, not the position in the ring. */
  pause(): void {
    this.base = this.#queue?.base ?? this.base;
    this.#queue = undefined;
  }

  /** @returns where the ring is to go on. */
  stop(): number {
    this.pause();
    for (const which of ["kick", "call"] as const) this.dropDescriptor(which);
    return this.base;
  }

  [Symbol.dispose](): void {
    this.stop();
    this.dropDescriptor("error");
  }

  #onKick(fd: number): void {
    try {
      if (this.#options.addon.readEventfd(fd) === 0) throw vhostError("a kick descriptor is no eventfd");
      this.#options.onKick();
    } catch (error) {
      this.#options.onFault(error);
    }
  }

  #call(): void {
    const fd = this.#descriptors.get("call");
    if (fd !== undefined) this.#options.addon.signalEventfd(fd);
  }
}
