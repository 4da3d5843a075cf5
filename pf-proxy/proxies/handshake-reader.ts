/** Takes the beginning of a stream piece by piece, each within a limit; what follows stays unread. */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";

/**
 * Reads until `find` tells how many bytes belong to the handshake; the rest is put back.
 * @param find gets all bytes so far; undefined: more are needed
 * @throws E_EGRESS_PROXY beyond `maxBytes` or at an early end, the signal's reason, what `find` throws
 */
export async function readHandshake(
  stream: Duplex,
  {
    maxBytes,
    find,
    signal,
  }: {
    readonly maxBytes: number;
    readonly find: (bytes: Buffer) => number | undefined;
    readonly signal: AbortSignal;
  },
): Promise<Buffer> {
  let kept: Buffer = Buffer.alloc(0);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const look = (): void => {
    try {
      for (;;) {
        const chunk: unknown = stream.read();
        if (!Buffer.isBuffer(chunk)) return;
        kept = Buffer.concat([kept, chunk]);
        const sizeBytes = find(kept);
        if (sizeBytes !== undefined) return resolve(sizeBytes);
        if (kept.length >= maxBytes)
          throw new KitError("E_EGRESS_PROXY", `no request within ${maxBytes} bytes`);
      }
    } catch (error) {
      reject(error);
    }
  };
  const end = (): void =>
    reject(new KitError("E_EGRESS_PROXY", "the client ended before its request was whole"));
  const abort = (): void => reject(signal.reason);
  const listeners = [
    ["readable", look],
    ["end", end],
    ["close", end],
    ["error", reject],
  ] as const;
  for (const [name, listener] of listeners) stream.on(name, listener);
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) abort();
    look();
    const sizeBytes = await promise;
    if (kept.length > sizeBytes) stream.unshift(kept.subarray(sizeBytes));
    return kept.subarray(0, sizeBytes);
  } finally {
    signal.removeEventListener("abort", abort);
    for (const [name, listener] of listeners) stream.off(name, listener);
  }
}
