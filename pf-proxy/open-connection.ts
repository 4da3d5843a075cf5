import { connect, type Socket } from "node:net";

/** A TCP connection to an address (not a name), half-open allowed. @throws errno, the signal's reason */
export async function openConnection(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
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
}
