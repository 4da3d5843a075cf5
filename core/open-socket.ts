import { connect, type IpcNetConnectOpts, type Socket, type TcpNetConnectOpts } from "node:net";

/**
 * A connection that is open, and the caller's. Nothing is left of one that failed.
 * @throws errno, the signal's reason
 */
export async function openSocket(
  target: IpcNetConnectOpts | TcpNetConnectOpts,
  signal: AbortSignal,
): Promise<Socket> {
  const socket = connect(target);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = (): void => reject(signal.reason);
  socket.once("connect", resolve).once("error", reject);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    await promise;
    socket.off("error", reject);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
