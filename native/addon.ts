/**
 * The addon as TypeScript sees it: one function for each system call that Node lacks, in C in native/addon.
 *
 * Descriptors are plain numbers here and belong to whoever got them. Every function throws a Node-like error with
 * `code` and `syscall`, and a TypeError for arguments that it cannot take.
 */
import { KitError } from "../core/errors.ts";

export interface Watch {
  /** No callback comes afterwards; the descriptor may be closed. */
  stop(): void;
}

export interface ReceivedMessage {
  /** Empty at the end of the stream. */
  readonly bytes: Buffer;
  readonly descriptors: readonly number[];
}

export interface Destination {
  /** As inet_ntop writes it; an IPv4 address without ::ffff: in front. */
  readonly address: string;
  readonly port: number;
}

export interface NativeAddon {
  /** A stream socket, non-blocking and close-on-exec, without the kernel's own two seconds for a connection. */
  readonly vsockSocket: () => number;
  readonly vsockBind: (fd: number, cid: number, port: number) => void;
  readonly vsockListen: (fd: number, backlog: number) => void;
  /** True if connected at once; else the socket becomes writable when socketError tells how it went. */
  readonly vsockConnect: (fd: number, cid: number, port: number) => boolean;
  readonly vsockPeer: (fd: number) => { readonly cid: number; readonly port: number };
  /** Throws why the connection failed. */
  readonly socketError: (fd: number) => void;
  /** Two connected Unix stream sockets. */
  readonly socketPair: () => [number, number];
  readonly closeFd: (fd: number) => void;
  /**
   * Where an accepted TCP connection went before the kernel redirected it; its own local address if it was not
   * redirected but is tracked. undefined if the kernel tracks no connections, or not this one.
   */
  readonly originalDestination: (fd: number) => Destination | undefined;
  /** Shared memory whose size never changes. */
  readonly memfd: (name: string, sizeBytes: number) => number;
  /** EPERM for a file that may shrink, EINVAL for a range beyond its end. Unmapped by unmap, or when collected. */
  readonly mapShared: (fd: number, offset: number, sizeBytes: number, writable: boolean) => ArrayBuffer;
  /** Views of the buffer are empty afterwards. */
  readonly unmap: (buffer: ArrayBuffer) => void;
  readonly eventfd: () => number;
  /** Adds one; never blocks. */
  readonly signalEventfd: (fd: number) => void;
  /** Count since the last read, 0 if none. */
  readonly readEventfd: (fd: number) => number;
  /** Calls back on the loop whenever the descriptor is readable, until stopped. */
  readonly watchReadable: (fd: number, callback: () => void) => Watch;
  readonly watchWritable: (fd: number, callback: () => void) => Watch;
  /**
   * One message of at most 65,536 bytes and 8 descriptors: undefined if none waits. More descriptors than allowed are
   * closed, all of them, and ETOOMANYREFS is thrown.
   */
  readonly receiveMessage: (
    fd: number,
    maxBytes: number,
    maxDescriptors: number,
  ) => ReceivedMessage | undefined;
  /**
   * One request to the Nitro Security Module that `fd` is /dev/nsm of, and its response. The driver may take two
   * minutes, which no signal shortens; a thread of libuv's pool waits for it. Rejects with the errno of the ioctl.
   * @param request is copied; more than 0x1000 bytes throw EMSGSIZE
   * @returns at most 0x3000 bytes
   */
  readonly nsmRequest: (fd: number, request: Uint8Array) => Promise<Buffer>;
  /** Sends all, or throws: EAGAIN and nothing was sent, EMSGSIZE and a part was. */
  readonly sendMessage: (fd: number, bytes: Uint8Array, descriptors?: readonly number[]) => void;
}

/** @throws E_NATIVE_ADDON the file is not there or not for this Node */
export function loadAddon(path: string): NativeAddon {
  const module: { exports: Partial<NativeAddon> } = { exports: {} };
  try {
    process.dlopen(module, path);
  } catch (error) {
    throw new KitError("E_NATIVE_ADDON", `cannot load ${path}`, { cause: error });
  }
  const { exports } = module;
  if (!isWhole(exports)) throw new KitError("E_NATIVE_ADDON", `${path} is of another version`);
  return exports;
}

function isWhole(addon: Partial<NativeAddon>): addon is NativeAddon {
  const { vsockSocket, watchWritable, originalDestination, nsmRequest } = addon;
  const kinds = [vsockSocket, watchWritable, originalDestination, nsmRequest];
  return kinds.every((method) => method !== undefined);
}
