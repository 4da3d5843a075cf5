/** The messages of one front end as they arrive, with the descriptors that came beside them. */
import type { NativeAddon, Watch } from "../../../../native/addon.ts";
import {
  MAX_VHOST_DESCRIPTORS,
  VHOST_HEADER_BYTES,
  type VhostHeader,
  decodeVhostHeader,
  vhostError,
} from "../../../../wire/vhost-user/frames.ts";

/** Read in one go; the rest comes with the next turn of the event loop. */
const MAX_TURN_MESSAGES = 16;

export interface VhostMessage {
  readonly header: VhostHeader;
  readonly payload: Buffer;
  /** The receiver's, all of them, also if it throws. */
  readonly descriptors: readonly number[];
}

export interface MessageChannelOptions {
  readonly addon: NativeAddon;
  /** A connected Unix socket; it stays the caller's, and is not read by anybody else. */
  readonly fd: number;
  readonly onMessage: (message: VhostMessage) => void;
  /** The front end is gone (undefined), or what it sent cannot be understood, or onMessage threw. */
  readonly onEnd: (error: unknown) => void;
}

/** Reads from now on, until it has called onEnd or is disposed of. */
export class MessageChannel implements Disposable {
  readonly #options: MessageChannelOptions;
  readonly #watch: Watch;
  #bytes: Buffer = Buffer.alloc(0);
  #header: VhostHeader | undefined;
  #descriptors: number[] = [];
  #isOpen = true;

  constructor(options: MessageChannelOptions) {
    this.#options = options;
    this.#watch = options.addon.watchReadable(options.fd, () => this.#onReadable());
  }

  /** @throws errno: EAGAIN if the front end reads none of its answers */
  send(frame: Uint8Array): void {
    this.#options.addon.sendMessage(this.#options.fd, frame);
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#watch.stop();
    for (const fd of this.#descriptors.splice(0)) this.#options.addon.closeFd(fd);
  }

  #onReadable(): void {
    try {
      for (let count = 0; count < MAX_TURN_MESSAGES && this.#isOpen; count += 1)
        if (!this.#readPart()) return;
    } catch (error) {
      this.#end(error);
    }
  }

  /** A header, or a payload: never beyond, or the descriptors of the next message would seem to be of this one. */
  #readPart(): boolean {
    const wantedBytes = this.#header === undefined ? VHOST_HEADER_BYTES : this.#header.payloadBytes;
    if (wantedBytes > this.#bytes.length && !this.#receive(wantedBytes - this.#bytes.length)) return false;
    if (wantedBytes > this.#bytes.length) return true;
    const bytes = this.#bytes;
    this.#bytes = Buffer.alloc(0);
    if (this.#header === undefined) {
      this.#header = decodeVhostHeader(bytes);
      if (this.#header.payloadBytes > 0) return true;
    }
    const message = {
      header: this.#header,
      payload: bytes.subarray(0, this.#header.payloadBytes),
      descriptors: this.#descriptors,
    };
    this.#header = undefined;
    this.#descriptors = [];
    this.#options.onMessage(message);
    return true;
  }

  #receive(maxBytes: number): boolean {
    const { addon, fd } = this.#options;
    const received = addon.receiveMessage(fd, maxBytes, MAX_VHOST_DESCRIPTORS);
    if (received === undefined) return false;
    this.#descriptors.push(...received.descriptors);
    if (this.#descriptors.length > MAX_VHOST_DESCRIPTORS)
      throw vhostError(`a message has ${this.#descriptors.length} descriptors`);
    if (received.bytes.length === 0) {
      const isCut = this.#header !== undefined || this.#bytes.length > 0;
      this.#end(isCut ? vhostError("the front end went away within a message") : undefined);
      return false;
    }
    this.#bytes = Buffer.concat([this.#bytes, received.bytes]);
    return true;
  }

  #end(error: unknown): void {
    if (!this.#isOpen) return;
    this[Symbol.dispose]();
    this.#options.onEnd(error);
  }
}
