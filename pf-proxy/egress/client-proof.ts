/** Reads from a client until its first bytes prove for whom the connection is, before anything is dialled. */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import type { StreamInspector } from "../inspection/stream-inspector.ts";

/**
 * What was read is put back, so that the stream is as before; it stays paused.
 * @throws E_EGRESS_INSPECTION, the signal's reason, the stream's own error
 */
export async function proveClient(
  client: Duplex,
  inspector: StreamInspector,
  signal: AbortSignal,
): Promise<void> {
  const seen: Buffer[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let isOver = false;
  const look = (): void => {
    try {
      if (isOver) return;
      while (!inspector.proven) {
        const chunk: unknown = client.read();
        if (!Buffer.isBuffer(chunk)) return;
        seen.push(chunk);
        inspector.push(chunk);
      }
      // At once: in the next turn the end of the stream may have been told, and nothing can be put back any more.
      if (seen.length > 0) client.unshift(Buffer.concat(seen));
      isOver = true;
      resolve();
    } catch (error) {
      reject(error);
    }
  };
  const end = (): void =>
    reject(new KitError("E_EGRESS_INSPECTION", "the client ended before it said whom it wants"));
  const abort = (): void => reject(signal.reason);
  const listeners = [
    ["readable", look],
    ["end", end],
    ["close", end],
    ["error", reject],
  ] as const;
  for (const [name, listener] of listeners) client.on(name, listener);
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) abort();
    look();
    await promise;
  } finally {
    signal.removeEventListener("abort", abort);
    for (const [name, listener] of listeners) client.off(name, listener);
  }
}
