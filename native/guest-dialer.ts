/** Connections from the enclave to vsock ports of the host, in both forms (guest-listener.ts has the way in). */
import { connect, type Socket } from "node:net";

import type { NativeAddon } from "./addon.ts";
import { connectVsock } from "./vsock-sockets.ts";
import { hostListenerName } from "../wire/hybrid-vsock.ts";

/** @throws errno, the signal's reason */
export type DialVsock = (port: number, signal: AbortSignal) => Promise<Socket>;

/** The parent instance, as init dials it. */
const CID_PARENT = 3;

/** @param directory the vsock directory, for example /proc/self/fd/4. */
export function dialInDirectory(directory: string): DialVsock {
  return async (port, signal) => {
    signal.throwIfAborted();
    const socket = connect({ path: `${directory}/${hostListenerName(port)}`, allowHalfOpen: true });
    const { promise, resolve, reject } = Promise.withResolvers<Socket>();
    const abort = (): void => reject(signal.reason);
    socket.once("connect", () => resolve(socket)).once("error", reject);
    signal.addEventListener("abort", abort, { once: true });
    try {
      return await promise;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
      socket.off("error", reject);
    }
  };
}

export function dialOnVsock(addon: NativeAddon): DialVsock {
  return async (port, signal) => await connectVsock({ cid: CID_PARENT, port }, { addon, signal });
}
