/** Takes the beginning of a stream, within a limit; what follows stays unread. */
import type { Duplex } from "node:stream";

import { KitError, toKitError } from "../../core/errors.ts";

export interface HandshakeOptions {
  /** `find` must have decided within so many bytes. */
  readonly maxBytes: number;
  /** Told all bytes so far, at most maxBytes: how many of them are the handshake. Undefined: more are needed. */
  readonly find: (bytes: Buffer) => number | undefined;
  /** Instead of waiting for more than maxBytes. */
  readonly onTooLong: () => Error;
  readonly signal: AbortSignal;
}

/**
 * Afterwards the stream does not flow, has no listeners of this function, and gives what follows the handshake.
 * @throws E_EGRESS_PROXY at an early end, the signal's reason as a KitError, what `find` and `onTooLong` give
 */
export async function readHandshake(stream: Duplex, options: HandshakeOptions): Promise<Buffer> {
  const { signal } = options;
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  let kept: Buffer = Buffer.alloc(0);
  let isDone = false;
  const look = (): void => {
    while (!isDone) {
      const chunk: unknown = stream.read();
      if (!Buffer.isBuffer(chunk)) return;
      kept = Buffer.concat([kept, chunk]);
      try {
        const sizeBytes = findWithin(kept, options);
        if (sizeBytes === undefined) continue;
        isDone = true;
        // At once, since a stream that was read to its end takes nothing back in the next tick.
        if (kept.length > sizeBytes) stream.unshift(kept.subarray(sizeBytes));
        resolve(kept.subarray(0, sizeBytes));
      } catch (error) {
        isDone = true;
        reject(error);
      }
    }
  };
  const gone = (cause?: unknown): void => reject(describeEnd(cause));
  const end = (): void => gone();
  const abort = (): void => reject(toKitError(signal.reason));
  const listeners = [
    ["readable", look],
    ["end", end],
    ["close", end],
    ["error", gone],
  ] as const;
  for (const [name, listener] of listeners) stream.on(name, listener);
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) abort();
    else if (stream.destroyed || stream.readableEnded) gone();
    else look();
    return await promise;
  } finally {
    isDone = true;
    signal.removeEventListener("abort", abort);
    for (const [name, listener] of listeners) stream.off(name, listener);
  }
}

/** The verdict must not depend on how much came at once. */
function findWithin(bytes: Buffer, { find, maxBytes, onTooLong }: HandshakeOptions): number | undefined {
  const sizeBytes = find(bytes.subarray(0, maxBytes));
  if (sizeBytes === undefined && bytes.length >= maxBytes) throw onTooLong();
  return sizeBytes;
}

function describeEnd(cause: unknown): KitError {
  const message = "the client ended before its request was whole";
  return new KitError("E_EGRESS_PROXY", message, cause === undefined ? {} : { cause });
}
