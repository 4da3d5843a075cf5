/**
 * A lock among the processes of this machine: a listening socket in the kernel's abstract namespace, so that no kill of
 * its holder can leave it behind. Whoever waits connects to it and hears its end.
 */
import { createHash } from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";

import { withDeadline } from "./deadline.ts";
import { isErrno } from "./errors.ts";

export interface MachineLockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called once if somebody else holds it. */
  readonly onWait?: (() => void) | undefined;
}

/**
 * Held until disposed.
 * @param key names what is locked; of any length.
 * @returns undefined if the holder does not let go within `timeoutMs`.
 * @throws the reason of the signal
 */
export async function holdMachineLock(
  key: string,
  timeoutMs: number,
  { signal, onWait }: MachineLockOptions = {},
): Promise<AsyncDisposable | undefined> {
  const address = lockAddress(key);
  const deadline = withDeadline(signal, timeoutMs);
  for (let attempt = 0; !deadline.aborted; attempt++) {
    const lock = await tryListen(address);
    if (lock !== undefined) return lock;
    if (attempt === 0) onWait?.();
    await awaitRelease(address, deadline);
  }
  signal?.throwIfAborted();
  return undefined;
}

/** Addresses have at most 107 bytes, keys more. */
function lockAddress(key: string): string {
  return `\0enclave-toolkit/${createHash("sha256").update(key).digest("hex")}`;
}

async function tryListen(address: string): Promise<AsyncDisposable | undefined> {
  const waiting = new Set<Socket>();
  const server = createServer((socket) => {
    waiting.add(socket);
    socket.on("error", () => undefined).once("close", () => waiting.delete(socket));
    socket.resume();
  });
  const { promise, resolve: done, reject } = Promise.withResolvers<void>();
  server.once("error", reject).listen(address, done);
  try {
    await promise;
  } catch (error) {
    if (isErrno(error, "EADDRINUSE")) return undefined;
    throw error;
  }
  server.unref();
  return { [Symbol.asyncDispose]: async () => await closeServer(server, waiting) };
}

async function closeServer(server: Server, waiting: ReadonlySet<Socket>): Promise<void> {
  const { promise, resolve: done } = Promise.withResolvers<unknown>();
  server.close(done);
  for (const socket of waiting) socket.destroy();
  await promise;
}

/** Resolves when the holder is gone or the deadline has passed. */
async function awaitRelease(address: string, deadline: AbortSignal): Promise<void> {
  const { promise, resolve: done } = Promise.withResolvers<unknown>();
  const socket = connect(address);
  const abort = (): void => void socket.destroy();
  deadline.addEventListener("abort", abort, { once: true });
  socket.on("error", () => undefined).once("close", done);
  socket.resume();
  if (deadline.aborted) abort();
  await promise;
  deadline.removeEventListener("abort", abort);
}
