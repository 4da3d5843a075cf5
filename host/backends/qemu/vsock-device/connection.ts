/**
 * One connection with the guest:
 *
 *   requested   we sent or owe a REQUEST, and wait for the answer
 *   open        data may go both ways, or one way after a half-close
 *   closing     we sent or owe "neither sends nor receives", and wait for the guest's RST
 *   resetting   we owe a RST; what comes meanwhile is of no meaning
 *   closed      out of the table
 *
 *   requested -> open | resetting | closed        open -> closing | resetting | closed
 *   closing -> resetting | closed                 resetting -> closed
 *
 * What is owed to the guest is kept here, as bits, until there is room in its ring: nothing of a connection that lives
 * is ever lost for want of room, and nothing grows while there is none.
 */
import {
  SHUTDOWN_BOTH,
  SHUTDOWN_RECEIVE,
  SHUTDOWN_SEND,
  VSOCK_OP,
  type VsockHeader,
} from "../../../../wire/virtio-vsock/vsock-header.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import { InboundQueue } from "./inbound-queue.ts";
import { OutboundQueue, type WriteCallback } from "./outbound-queue.ts";
import { type SocketOwner, socketError, VsockSocket } from "./vsock-socket.ts";

/** The guest hears of new room when this part of the window became free. */
const ANNOUNCED_PART = 4;

const OWES = { request: 1, response: 2, credit: 4, shutdown: 8, reset: 16 } as const;

/** The host's and the guest's end. */
export interface ConnectionAddress {
  /** 2 or 3: what the guest takes the host for. */
  readonly hostCid: number;
  readonly hostPort: number;
  readonly guestPort: number;
}

/** What a connection tells the device that it belongs to. */
export interface ConnectionOwner {
  /** Something is owed, or can be sent. */
  onReady(connection: Connection): void;
  /** Bytes came that shall be handed to the stream after the work on the ring. */
  onArrival(connection: Connection): void;
  /** The guest's RST is awaited from now on. */
  onClosing(connection: Connection): void;
  onClosed(connection: Connection): void;
}

/** The next packet for the guest; the payload is still in the connection. */
export interface PacketPlan {
  readonly operation: number;
  readonly flags: number;
  readonly sizeBytes: number;
}

export interface ConnectionOptions {
  readonly address: ConnectionAddress;
  readonly owner: ConnectionOwner;
  /** How many bytes the guest may send before the host took some. */
  readonly windowBytes: number;
  /** Hears how a request of the host ends; a connection that the guest requested is open at once. */
  readonly onAnswer?: (isAccepted: boolean) => void;
}

export class Connection implements SocketOwner {
  readonly address: ConnectionAddress;
  readonly windowBytes: number;
  readonly socket: VsockSocket;
  readonly #owner: ConnectionOwner;
  readonly #inbound = new InboundQueue();
  readonly #outbound = new OutboundQueue();
  readonly #onAnswer: ((isAccepted: boolean) => void) | undefined;
  #state: "requested" | "open" | "closing" | "resetting" | "closed";
  #owes = 0;
  /** Of SHUTDOWN, from the guest. */
  #guestShutdown = 0;
  #hasEndedReading = false;
  #wantsData = false;
  /** All counts are modulo 2^32. */
  #received = 0;
  #consumed = 0;
  #announced = 0;
  #sent = 0;
  #guestSpace = 0;
  #guestConsumed = 0;

  constructor({ address, owner, windowBytes, onAnswer }: ConnectionOptions) {
    this.address = address;
    this.windowBytes = windowBytes;
    this.#owner = owner;
    this.#onAnswer = onAnswer;
    this.socket = new VsockSocket(this);
    this.#state = onAnswer === undefined ? "open" : "requested";
    this.#owes = onAnswer === undefined ? OWES.response : OWES.request;
    this.socket.once("end", () => this.#onReadEnd());
  }

  /** Bytes that the host has taken, as headers say it. */
  get consumed(): number {
    return this.#consumed;
  }

  /** The request of the guest that made this connection. */
  accept({ bufferSpace, consumed }: VsockHeader): void {
    this.#guestSpace = bufferSpace;
    this.#guestConsumed = consumed;
    this.#wake();
  }

  /** A packet of the guest for this connection; its payload is next in `chain`, all of it. */
  receive(header: VsockHeader, chain: DescriptorChain): void {
    const { operation } = header;
    if (operation === VSOCK_OP.reset) return this.fail();
    if (this.#state === "resetting" || this.#state === "closed") return;
    this.#guestSpace = header.bufferSpace;
    this.#guestConsumed = header.consumed;
    if (this.#state === "requested") this.#receiveAnswer(operation);
    else if (operation === VSOCK_OP.data) this.#receiveData(header.sizeBytes, chain);
    else this.#receiveControl(operation, header.flags);
    this.#wake();
  }

  #receiveAnswer(operation: number): void {
    if (operation !== VSOCK_OP.response) return this.reset();
    this.#state = "open";
    this.#onAnswer?.(true);
  }

  #receiveControl(operation: number, flags: number): void {
    switch (operation) {
      case VSOCK_OP.request:
        return this.#receiveRequest();
      case VSOCK_OP.shutdown:
        return this.#receiveShutdown(flags);
      case VSOCK_OP.creditRequest:
        this.#owes |= OWES.credit;
        return;
      case VSOCK_OP.creditUpdate:
        return;
      default:
        return this.reset();
    }
  }

  /** Asked again before it sent anything, it may have missed our answer; later, it forgot the connection. */
  #receiveRequest(): void {
    const isAgain = this.#state === "open" && this.#onAnswer === undefined && this.#received === 0;
    if (isAgain) this.#owes |= OWES.response;
    else this.reset();
  }

  #receiveShutdown(flags: number): void {
    this.#guestShutdown |= flags & SHUTDOWN_BOTH;
    if ((this.#guestShutdown & SHUTDOWN_RECEIVE) !== 0 && this.#outbound.sizeBytes > 0)
      this.#outbound.drop(socketError("EPIPE", "write"));
    if (this.#state === "open") this.#owner.onArrival(this);
  }

  #receiveData(sizeBytes: number, chain: DescriptorChain): void {
    // The host does not read any more, and has said so.
    if (this.#state === "closing") return;
    const inFlight = (this.#received - this.#consumed) >>> 0;
    const isAllowed = (this.#guestShutdown & SHUTDOWN_SEND) === 0 && inFlight + sizeBytes <= this.windowBytes;
    if (!isAllowed) return this.reset();
    this.#received = (this.#received + sizeBytes) >>> 0;
    this.#inbound.append(chain, sizeBytes);
    this.#owner.onArrival(this);
  }

  /** Hands to the stream what it takes. */
  deliver(): void {
    while (this.#wantsData && this.#state === "open") {
      const block = this.#inbound.shift();
      if (block === undefined) break;
      this.#consumed = (this.#consumed + block.length) >>> 0;
      this.#wantsData = this.socket.push(block);
    }
    if (this.#state !== "open") return;
    const isDone = (this.#guestShutdown & SHUTDOWN_SEND) !== 0 && this.#inbound.isEmpty;
    if (isDone && !this.#hasEndedReading) {
      this.#hasEndedReading = true;
      this.socket.push(null);
    }
    this.#announce();
  }

  #announce(): void {
    const news = (this.#consumed - this.#announced) >>> 0;
    if (news * ANNOUNCED_PART < this.windowBytes || (this.#guestShutdown & SHUTDOWN_SEND) !== 0) return;
    this.#owes |= OWES.credit;
    this.#wake();
  }

  /** The guest closed fully and the host has read everything: the guest waits for nothing but our RST. */
  #onReadEnd(): void {
    if (this.#guestShutdown === SHUTDOWN_BOTH && this.#state === "open") this.#finish("resetting");
  }

  onRead(): void {
    this.#wantsData = true;
    this.deliver();
  }

  onWrite(chunks: readonly Uint8Array[], callback: WriteCallback): void {
    if (this.#cannotSend()) return callback(socketError("EPIPE", "write"));
    this.#outbound.put(chunks, callback);
    this.#wake();
  }

  onFinish(callback: WriteCallback): void {
    if (!this.#cannotSend()) {
      this.#owes |= OWES.shutdown;
      this.#wake();
    }
    callback();
  }

  onDestroy(isClean: boolean): void {
    if (this.#state === "requested" || this.#state === "open") {
      const isWaiting = isClean && this.#guestShutdown !== SHUTDOWN_BOTH;
      this.#finish(isWaiting ? "closing" : "resetting");
    }
  }

  #cannotSend(): boolean {
    return this.#state !== "open" || (this.#guestShutdown & SHUTDOWN_RECEIVE) !== 0;
  }

  /** The guest did what no driver does, or the host wants no more: the guest gets a RST, the host an error. */
  reset(): void {
    if (this.#state === "closed" || this.#state === "resetting") return;
    const wasRequested = this.#state === "requested";
    this.#finish("resetting");
    if (wasRequested) this.#onAnswer?.(false);
    this.socket.destroy(socketError("ECONNRESET", "read"));
  }

  /** The guest reset the connection, or is gone. */
  fail(): void {
    const state = this.#state;
    if (state === "closed") return;
    this.#state = "closed";
    this.#owes = 0;
    this.#inbound.clear();
    this.#outbound.drop(socketError("ECONNRESET", "write"));
    this.#owner.onClosed(this);
    if (state === "requested") this.#onAnswer?.(false);
    const isExpected = state !== "open" || (this.socket.readableEnded && this.socket.writableFinished);
    if (isExpected) this.socket.destroy();
    else this.socket.destroy(socketError("ECONNRESET", "read"));
  }

  #finish(state: "closing" | "resetting"): void {
    this.#state = state;
    this.#owes = state === "closing" ? (this.#owes & OWES.response) | OWES.shutdown : OWES.reset;
    this.#inbound.clear();
    this.#outbound.drop(socketError("ECONNRESET", "write"));
    this.#owner.onReady(this);
  }

  #wake(): void {
    if (this.planPacket(1) !== undefined) this.#owner.onReady(this);
  }

  /** What goes to the guest next; undefined if nothing does until the guest or the host acts. */
  planPacket(roomBytes: number): PacketPlan | undefined {
    const owes = this.#owes;
    if ((owes & OWES.reset) !== 0) return control(VSOCK_OP.reset);
    if ((owes & OWES.request) !== 0) return control(VSOCK_OP.request);
    if ((owes & OWES.response) !== 0) return control(VSOCK_OP.response);
    const sizeBytes =
      this.#state === "open" ? Math.min(this.#outbound.sizeBytes, this.#credit(), roomBytes) : 0;
    if (sizeBytes > 0) return { operation: VSOCK_OP.data, flags: 0, sizeBytes };
    if ((owes & OWES.credit) !== 0) return control(VSOCK_OP.creditUpdate);
    if ((owes & OWES.shutdown) === 0 || this.#outbound.sizeBytes > 0) return undefined;
    return control(VSOCK_OP.shutdown, this.#state === "closing" ? SHUTDOWN_BOTH : SHUTDOWN_SEND);
  }

  /** The planned packet is in the ring: its payload goes into `chain`, behind the header. */
  send({ operation, sizeBytes }: PacketPlan, chain: DescriptorChain): void {
    this.#announced = this.#consumed;
    this.#owes &= ~OWES.credit;
    switch (operation) {
      case VSOCK_OP.data:
        this.#sent = (this.#sent + sizeBytes) >>> 0;
        return this.#outbound.moveInto(chain, sizeBytes);
      case VSOCK_OP.request:
        this.#owes &= ~OWES.request;
        return;
      case VSOCK_OP.response:
        this.#owes &= ~OWES.response;
        return;
      case VSOCK_OP.shutdown:
        this.#owes &= ~OWES.shutdown;
        if (this.#state === "closing") this.#owner.onClosing(this);
        return;
      default:
        if (operation === VSOCK_OP.reset) this.#close();
    }
  }

  #close(): void {
    this.#state = "closed";
    this.#owes = 0;
    this.#owner.onClosed(this);
  }

  /** The guest did not answer in time. */
  giveUp(): void {
    if (this.#state === "closing") this.#finish("resetting");
  }

  #credit(): number {
    return Math.max(0, this.#guestSpace - ((this.#sent - this.#guestConsumed) >>> 0));
  }
}

function control(operation: number, flags = 0): PacketPlan {
  return { operation, flags, sizeBytes: 0 };
}
