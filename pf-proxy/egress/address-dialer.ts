/**
 * Happy eyeballs (RFC 8305) over addresses that were checked before: families take turns, a further attempt begins when
 * the one before failed or took too long, and the first that connects wins.
 */
import type { Socket } from "node:net";

import { openConnection } from "../open-connection.ts";

/** RFC 8305, section 8. */
const ATTEMPT_DELAY_MS = 250;
const MAX_ATTEMPTS = 8;

/** @param addresses at least one, in the order of preference. @throws errno of the last failure, the signal's reason */
export async function dialAddresses(
  addresses: readonly string[],
  port: number,
  signal: AbortSignal,
): Promise<Socket> {
  signal.throwIfAborted();
  const queue = interleave(addresses).slice(0, MAX_ATTEMPTS);
  const over = new AbortController();
  const stop = over.signal;
  const abort = (): void => over.abort(signal.reason);
  let isOver = false;
  const { promise: winner, resolve, reject } = Promise.withResolvers<Socket>();
  let running = 0;
  let timer: NodeJS.Timeout | undefined;
  const next = (): void => {
    clearTimeout(timer);
    const address = queue.shift();
    if (address === undefined || stop.aborted) return;
    running += 1;
    if (queue.length > 0) timer = setTimeout(next, ATTEMPT_DELAY_MS);
    openConnection(address, port, stop).then(win, lose);
  };
  const win = (socket: Socket): void => {
    // Two may connect in one turn; the second is not needed.
    if (isOver) return void socket.destroy();
    isOver = true;
    resolve(socket);
  };
  const lose = (error: unknown): void => {
    running -= 1;
    if (isOver) return;
    if (running === 0 && (queue.length === 0 || signal.aborted)) reject(error);
    else next();
  };
  signal.addEventListener("abort", abort, { once: true });
  next();
  try {
    return await winner;
  } finally {
    isOver = true;
    signal.removeEventListener("abort", abort);
    clearTimeout(timer);
    over.abort();
  }
}

/** Families take turns, beginning with that of the first. */
function interleave(addresses: readonly string[]): string[] {
  const isV6 = (address: string): boolean => address.includes(":");
  const first = addresses.filter((address) => isV6(address) === isV6(addresses[0] ?? ""));
  const second = addresses.filter((address) => !first.includes(address));
  const mixed = first.flatMap((address, index) => [address, ...second.slice(index, index + 1)]);
  return [...mixed, ...second.slice(first.length)];
}
