import type { Duplex } from "node:stream";

import { KitError } from "../core/errors.ts";

export interface Line {
  /** Without its newline, as Latin-1: nothing is interpreted here. */
  readonly line: string;
  /** What came behind the line. */
  readonly rest: Buffer;
}

/**
 * Reads one line from a socket that has not been read yet, and leaves it paused.
 * @throws E_HOST_LINE for a longer line or an end before the newline; the signal's reason.
 */
export async function readLine(socket: Duplex, maxBytes: number, signal: AbortSignal): Promise<Line> {
  const { promise, resolve, reject } = Promise.withResolvers<Line>();
  let bytes = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    bytes = Buffer.concat([bytes, chunk]);
    const end = bytes.indexOf(0x0a);
    if (end >= 0 && end < maxBytes)
      resolve({ line: bytes.toString("latin1", 0, end), rest: bytes.subarray(end + 1) });
    else if (bytes.length >= maxBytes)
      reject(new KitError("E_HOST_LINE", `a line of more than ${maxBytes} bytes`));
  };
  const onEnd = (): void => reject(new KitError("E_HOST_LINE", "the connection ended before its line"));
  const onAbort = (): void => reject(signal.reason);
  socket.on("data", onData).once("end", onEnd).once("close", onEnd).once("error", reject);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  socket.resume();
  try {
    return await promise;
  } finally {
    socket.off("data", onData).off("end", onEnd).off("close", onEnd).off("error", reject).pause();
    signal.removeEventListener("abort", onAbort);
  }
}
