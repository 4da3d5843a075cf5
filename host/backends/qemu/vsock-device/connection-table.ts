/**
 * All connections with one guest, and what becomes of each packet that it sends. Nothing in a packet is believed but
 * for its own connection: a forged source is dropped, everything for a connection that does not exist gets a RST.
 */
import { KitError } from "../../../../core/errors.ts";
import {
  CID_HOST,
  CID_PARENT,
  VSOCK_HEADER_BYTES,
  VSOCK_OP,
  VSOCK_STREAM,
  type VsockHeader,
  decodeVsockHeader,
} from "../../../../wire/virtio-vsock/vsock-header.ts";
import { ClosingConnections } from "./closing-connections.ts";
import { Connection, type ConnectionAddress, type ConnectionOwner } from "./connection.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import type { DeviceCounts } from "./device-counts.ts";
import type { PacketQueue } from "./packet-queue.ts";
import { PortAllocator } from "./port-allocator.ts";
import type { VsockSocket } from "./vsock-socket.ts";

const MAX_CONNECTIONS = 8192;
/**
 * What a guest may make us hold, over all connections: each gets a window of a 512th of what is left, so that few
 * connections are fast and many are possible.
 */
const WINDOW_BUDGET_BYTES = 256 * 1024 ** 2;
const WINDOW_SHARE = 512;
const MAX_WINDOW_BYTES = 256 * 1024;
const MIN_WINDOW_BYTES = 16 * 1024;

export type ConnectionHandler = (socket: VsockSocket) => void;

export interface ConnectionTableOptions {
  readonly guestCid: number;
  readonly counts: DeviceCounts;
  readonly queue: PacketQueue;
  /** Something waits for room in the guest's ring. */
  readonly onReady: () => void;
}

export class ConnectionTable implements ConnectionOwner {
  readonly #options: ConnectionTableOptions;
  readonly #connections = new Map<string, Connection>();
  readonly #handlers = new Map<number, ConnectionHandler>();
  readonly #arrivals = new Set<Connection>();
  readonly #closing = new ClosingConnections();
  readonly #ports = new PortAllocator();
  readonly #headerBytes = new Uint8Array(VSOCK_HEADER_BYTES);
  readonly #headerView = new DataView(this.#headerBytes.buffer);
  #reservedBytes = 0;

  constructor(options: ConnectionTableOptions) {
    this.#options = options;
  }

  setHandler(port: number, handler: ConnectionHandler): void {
    this.#handlers.set(port, handler);
  }

  /** One entry of the ring that the guest sends with. */
  receive(chain: DescriptorChain): void {
    const { counts, guestCid } = this.#options;
    if (chain.readableBytes < VSOCK_HEADER_BYTES || chain.writableBytes > 0) {
      counts.malformed += 1;
      return;
    }
    chain.read(this.#headerBytes, 0, VSOCK_HEADER_BYTES);
    const header = decodeVsockHeader(this.#headerView);
    if (header.sourceCid !== guestCid) counts.malformed += 1;
    else if (!isForHost(header) || header.type !== VSOCK_STREAM) this.#refuseUnknown(header);
    else this.#receiveForHost(header, chain);
  }

  #receiveForHost(header: VsockHeader, chain: DescriptorChain): void {
    const connection = this.#connections.get(keyOf(addressOf(header)));
    if (connection === undefined) {
      if (header.operation === VSOCK_OP.request) this.#accept(header);
      else this.#refuseUnknown(header);
      return;
    }
    if (header.sizeBytes > chain.readableBytes - VSOCK_HEADER_BYTES) {
      this.#options.counts.malformed += 1;
      return connection.reset();
    }
    this.#options.counts.bytesFromGuest += header.sizeBytes;
    connection.receive(header, chain);
  }

  #accept(header: VsockHeader): void {
    const { counts, queue, onReady } = this.#options;
    const handler = this.#handlers.get(header.destinationPort);
    if (handler === undefined || this.#connections.size >= MAX_CONNECTIONS) {
      counts.refused += 1;
      queue.addReset(header);
      return onReady();
    }
    const connection = this.#add(addressOf(header));
    connection.accept(header);
    // Not within the work on the ring, which a handler that throws would end.
    process.nextTick(handler, connection.socket);
  }

  #refuseUnknown(header: VsockHeader): void {
    if (header.operation === VSOCK_OP.reset) return;
    this.#options.counts.unknown += 1;
    this.#options.queue.addReset(header);
    this.#options.onReady();
  }

  /**
   * Asks the guest for a connection.
   * @throws E_BACKEND_CONNECT if it refuses or there are too many, the signal's reason
   */
  async connect(port: number, signal: AbortSignal): Promise<VsockSocket> {
    signal.throwIfAborted();
    if (this.#connections.size >= MAX_CONNECTIONS)
      throw new KitError("E_BACKEND_CONNECT", `there are ${MAX_CONNECTIONS} vsock connections already`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const address = this.#freeAddress(port);
    const connection = this.#add(address, (isAccepted) =>
      isAccepted ? resolve() : reject(refusedError(port)),
    );
    const abort = (): void => {
      reject(signal.reason);
      connection.socket.destroy();
    };
    // The promise tells what the error says; it also holds for a reset that follows the answer at once.
    connection.socket.on("error", ignore);
    signal.addEventListener("abort", abort, { once: true });
    this.onReady(connection);
    try {
      await promise;
      if (connection.socket.destroyed) throw refusedError(port);
      connection.socket.off("error", ignore);
      return connection.socket;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #freeAddress(guestPort: number): ConnectionAddress {
    const isFree = (hostPort: number): boolean =>
      !this.#connections.has(keyOf({ hostCid: CID_HOST, hostPort, guestPort }));
    return { hostCid: CID_HOST, hostPort: this.#ports.next(isFree), guestPort };
  }

  #add(address: ConnectionAddress, onAnswer?: (isAccepted: boolean) => void): Connection {
    const share = Math.floor((WINDOW_BUDGET_BYTES - this.#reservedBytes) / WINDOW_SHARE);
    const windowBytes = Math.max(MIN_WINDOW_BYTES, Math.min(MAX_WINDOW_BYTES, share));
    const asked = onAnswer === undefined ? {} : { onAnswer };
    const connection = new Connection({ address, owner: this, windowBytes, ...asked });
    this.#connections.set(keyOf(address), connection);
    this.#reservedBytes += windowBytes;
    this.#options.counts.connections = this.#connections.size;
    return connection;
  }

  onReady(connection: Connection): void {
    this.#options.queue.add(connection);
    this.#options.onReady();
  }

  onArrival(connection: Connection): void {
    if (this.#arrivals.size === 0) process.nextTick(() => this.#deliver());
    this.#arrivals.add(connection);
  }

  /** A reader that throws ends this tick: the others are delivered to in the next. */
  #deliver(): void {
    try {
      for (const connection of this.#arrivals) {
        this.#arrivals.delete(connection);
        connection.deliver();
      }
    } finally {
      if (this.#arrivals.size > 0) process.nextTick(() => this.#deliver());
    }
  }

  onClosing(connection: Connection): void {
    this.#closing.add(connection);
  }

  onClosed(connection: Connection): void {
    this.#options.queue.remove(connection);
    this.#closing.remove(connection);
    if (!this.#connections.delete(keyOf(connection.address))) return;
    this.#reservedBytes -= connection.windowBytes;
    this.#options.counts.connections = this.#connections.size;
  }

  /** The guest or its driver is gone: every connection fails. */
  failAll(): void {
    for (const connection of this.#connections.values()) connection.fail();
    this.#options.queue.dropResets();
  }
}

function isForHost({ destinationCid }: VsockHeader): boolean {
  return destinationCid === CID_HOST || destinationCid === CID_PARENT;
}

function addressOf({ destinationCid, destinationPort, sourcePort }: VsockHeader): ConnectionAddress {
  return { hostCid: destinationCid, hostPort: destinationPort, guestPort: sourcePort };
}

function keyOf({ hostCid, hostPort, guestPort }: ConnectionAddress): string {
  return `${hostCid} ${hostPort} ${guestPort}`;
}

function refusedError(port: number): KitError {
  return new KitError("E_BACKEND_CONNECT", `the enclave does not listen on vsock port ${port}`);
}

function ignore(): void {
  // Said by other means.
}
