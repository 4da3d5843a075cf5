/**
 * One front end, from its connection to its end: agrees on features, maps the guest's memory, starts and stops the
 * two rings. Every descriptor that comes is closed at the latest at the end, also those of messages that are refused.
 */
import { isErrno } from "../../../../core/errors.ts";
import type { NativeAddon } from "../../../../native/addon.ts";
import { encodeVhostFrame, vhostError } from "../../../../wire/vhost-user/frames.ts";
import {
  FEATURE_PROTOCOL,
  PROTOCOL_FEATURE,
  type VhostRequest,
  decodeVhostRequest,
  descriptorsOf,
  encodeConfig,
  encodeRingValue,
  encodeU64,
} from "../../../../wire/vhost-user/requests.ts";
import { GuestMemory } from "./guest-memory.ts";
import { MessageChannel, type VhostMessage } from "./message-channel.ts";
import { RingSlot } from "./ring-slot.ts";
import type { Transport } from "./transport.ts";
import { FEATURE_EVENT_INDEX } from "./virtqueue.ts";

const FEATURE_VERSION_1 = 1n << 32n;
/** Indirect tables are not offered: a packet has two descriptors, and rings have room enough. */
const FEATURES = FEATURE_VERSION_1 | FEATURE_PROTOCOL | FEATURE_EVENT_INDEX;
const PROTOCOL_FEATURES = PROTOCOL_FEATURE.manyRings | PROTOCOL_FEATURE.answers | PROTOCOL_FEATURE.config;
/** To the guest and from it; the front end keeps the third, for events, to itself. */
const RING_COUNT = 2;

export interface FrontEndOptions {
  readonly addon: NativeAddon;
  /** A connected Unix socket that stays the caller's. */
  readonly fd: number;
  readonly guestCid: number;
  readonly transport: Transport;
  /** The guest's driver was stopped: it has forgotten all connections. */
  readonly onStop: () => void;
  /** At most once, when nothing is held any more. Undefined: the front end left between two messages. */
  readonly onEnd: (error: unknown) => void;
}

export class FrontEndSession implements Disposable {
  readonly #options: FrontEndOptions;
  readonly #channel: MessageChannel;
  readonly #rings: readonly [RingSlot, RingSlot];
  readonly #configBytes = Buffer.alloc(8);
  #memory: GuestMemory | undefined;
  #features = 0n;
  #protocolFeatures = 0n;
  #isOpen = true;

  constructor(options: FrontEndOptions) {
    this.#options = options;
    const { addon, fd, transport } = options;
    const ring = { addon, onKick: () => transport.run(), onFault: (error: unknown) => this.fail(error) };
    this.#rings = [new RingSlot(ring), new RingSlot(ring)];
    this.#configBytes.writeBigUInt64LE(BigInt(options.guestCid));
    this.#channel = new MessageChannel({
      addon,
      fd,
      onMessage: (message) => this.#onMessage(message),
      onEnd: (error) => this.fail(error),
    });
  }

  /** Ends the session for this reason. */
  fail(error: unknown): void {
    if (!this.#isOpen) return;
    this[Symbol.dispose]();
    this.#options.onEnd(error);
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#channel[Symbol.dispose]();
    this.#options.transport.setRings(undefined, undefined);
    for (const ring of this.#rings) ring[Symbol.dispose]();
    this.#memory?.[Symbol.dispose]();
    this.#memory = undefined;
  }

  #onMessage({ header, payload, descriptors }: VhostMessage): void {
    const owned = [...descriptors];
    try {
      const request = decodeVhostRequest(header.request, payload);
      if (header.isAnswer) throw vhostError(`request ${header.request} came as an answer`);
      if (owned.length !== descriptorsOf(request))
        throw vhostError(
          `${request.kind} has ${owned.length} descriptors instead of ${descriptorsOf(request)}`,
        );
      const answer = this.#handle(request, owned);
      const mayAnswer = (this.#protocolFeatures & PROTOCOL_FEATURE.answers) !== 0n;
      const bytes = answer ?? (header.needsAnswer && mayAnswer ? encodeU64(0n) : undefined);
      if (bytes !== undefined) this.#answer(header.request, bytes);
    } finally {
      for (const fd of owned) this.#options.addon.closeFd(fd);
    }
  }

  #answer(request: number, payload: Buffer): void {
    try {
      this.#channel.send(encodeVhostFrame({ request, isAnswer: true, needsAnswer: false }, payload));
    } catch (error) {
      // It went away; the channel will say so.
      if (!isErrno(error, "EPIPE") && !isErrno(error, "ECONNRESET")) throw error;
    }
  }

  /** @param owned descriptors; what is taken over is taken out. @returns the answer of requests that have one. */
  #handle(request: VhostRequest, owned: number[]): Buffer | undefined {
    switch (request.kind) {
      case "get-features":
        return encodeU64(FEATURES);
      case "get-protocol-features":
        return encodeU64(PROTOCOL_FEATURES);
      case "get-ring-count":
        return encodeU64(BigInt(RING_COUNT));
      case "get-config":
        return this.#readConfig(request);
      case "set-features":
        return this.#setFeatures(request.features);
      case "set-protocol-features":
        return this.#setProtocolFeatures(request.features);
      case "set-owner":
      case "reset-owner":
        return undefined;
      case "set-memory-table":
        return this.#setMemory(request, owned);
      default:
        return this.#handleRing(request, owned);
    }
  }

  #readConfig({ offset, sizeBytes, flags }: Extract<VhostRequest, { kind: "get-config" }>): Buffer {
    const isThere = offset <= this.#configBytes.length && sizeBytes <= this.#configBytes.length - offset;
    return encodeConfig(
      offset,
      flags,
      isThere ? this.#configBytes.subarray(offset, offset + sizeBytes) : Buffer.alloc(0),
    );
  }

  #setFeatures(features: bigint): undefined {
    if ((features & ~FEATURES) !== 0n)
      throw vhostError(`features 0x${features.toString(16)} were not offered`);
    // Whoever knows protocol features enables each ring; for others, rings are enabled from the start.
    const isGated = (features & FEATURE_PROTOCOL) !== 0n;
    if (!this.#rings.some((ring) => ring.isStarted))
      for (const ring of this.#rings) ring.isEnabled = !isGated;
    this.#features = features;
  }

  #setProtocolFeatures(features: bigint): undefined {
    if ((features & ~PROTOCOL_FEATURES) !== 0n)
      throw vhostError(`protocol features 0x${features.toString(16)} were not offered`);
    this.#protocolFeatures = features;
  }

  #setMemory(
    { regions }: Extract<VhostRequest, { kind: "set-memory-table" }>,
    owned: readonly number[],
  ): undefined {
    const { addon, transport } = this.#options;
    const memory = GuestMemory.map(addon, regions, owned);
    transport.setRings(undefined, undefined);
    for (const ring of this.#rings) ring.pause();
    this.#memory?.[Symbol.dispose]();
    this.#memory = memory;
    this.#update();
  }

  #handleRing(request: Extract<VhostRequest, { ring: number }>, owned: number[]): Buffer | undefined {
    const ring = this.#rings[request.ring];
    if (ring === undefined) throw vhostError(`${request.kind}: there is no ring ${request.ring}`);
    switch (request.kind) {
      case "set-ring-enabled":
        ring.isEnabled = request.isEnabled;
        break;
      case "set-ring-descriptor": {
        const fd = owned.shift();
        if (fd === undefined) ring.dropDescriptor(request.which);
        else ring.setDescriptor(request.which, fd);
        break;
      }
      case "get-ring-base":
        return this.#stopRing(ring, request.ring);
      default:
        setUp(ring, request);
    }
    this.#update();
    return undefined;
  }

  #stopRing(ring: RingSlot, index: number): Buffer {
    this.#options.transport.setRings(undefined, undefined);
    const base = ring.stop();
    this.#update();
    this.#options.onStop();
    return encodeRingValue(index, base);
  }

  #update(): void {
    const hasEventIndex = (this.#features & FEATURE_EVENT_INDEX) !== 0n;
    const [toGuest, fromGuest] = this.#rings;
    this.#options.transport.setRings(
      toGuest.run(this.#memory, hasEventIndex),
      fromGuest.run(this.#memory, hasEventIndex),
    );
  }
}

/** @throws E_QEMU_VSOCK_FRONT_END while the ring runs */
function setUp(
  ring: RingSlot,
  request: Extract<VhostRequest, { kind: "set-ring-size" | "set-ring-base" | "set-ring-addresses" }>,
): void {
  if (ring.isStarted) throw vhostError(`${request.kind}: ring ${request.ring} runs`);
  if (request.kind === "set-ring-addresses") ring.addresses = request.addresses;
  else if (request.kind === "set-ring-size") ring.size = request.value;
  else ring.base = request.value;
}
