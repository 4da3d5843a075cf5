/**
 * One command at a time decides what a name stands for: takes it, corrects its record, removes it. The lock is a
 * listening socket in the kernel's abstract namespace, so that no kill of its holder can leave it behind; whoever waits
 * connects to it and hears its end.
 */
import { createHash } from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";
import { resolve } from "node:path";

import { isErrno, KitError } from "../../core/errors.ts";

/** Longer than any holder needs; it never waits for services. */
const LOCK_TIMEOUT_MS = 10_000;

/** Held until disposed. @throws E_HOST_NAME_IN_USE if another command does not let go of the name in time. */
export async function lockName(
  stateDir: string,
  name: string,
  timeoutMs = LOCK_TIMEOUT_MS,
): Promise<AsyncDisposable> {
  const address = lockAddress(stateDir, name);
  const deadline = AbortSignal.timeout(timeoutMs);
  while (!deadline.aborted) {
    const lock = await tryListen(address);
    if (lock !== undefined) return lock;
    await awaitRelease(address, deadline);
  }
  throw new KitError("E_HOST_NAME_IN_USE", `another command is busy with enclave ${name}`, {
    hint: "Wait until it is done, or end it.",
  });
}

/** Addresses have at most 107 bytes, state directories more. */
function lockAddress(stateDir: string, name: string): string {
  const digest = createHash("sha256")
    .update(`${resolve(stateDir)}\0${name}`)
    .digest("hex");
  return `\0enclave-toolkit/${digest}`;
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
