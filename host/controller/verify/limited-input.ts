import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";

import { KitError, toKitError } from "../../../core/errors.ts";

export interface InputLimits {
  /** What to call it in messages. */
  readonly what: string;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Up to one byte more than the limit: whoever gets that many refuses them in his own words.
 * @param path `-` for `stdin`
 * @throws E_USAGE for what cannot be read, E_CANCELLED
 */
export async function readLimited(path: string, stdin: Readable, limits: InputLimits): Promise<Uint8Array> {
  const { what, maxBytes, signal } = limits;
  const stream = path === "-" ? stdin : createReadStream(path);
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  const cut = (): void => void stream.destroy(toKitError(signal.reason));
  signal.addEventListener("abort", cut, { once: true });
  try {
    signal.throwIfAborted();
    for await (const chunk of stream) {
      const bytes: Uint8Array = Buffer.from(chunk);
      chunks.push(bytes);
      sizeBytes += bytes.length;
      if (sizeBytes > maxBytes) break;
    }
  } catch (error) {
    if (signal.aborted) throw toKitError(signal.reason);
    const reason = error instanceof Error ? error.message : String(error);
    throw new KitError("E_USAGE", `the ${what} cannot be read: ${reason}`, { cause: error, hint: "Name a file, or - for the standard input." }); // prettier-ignore
  } finally {
    signal.removeEventListener("abort", cut);
    stream.destroy();
  }
  return Buffer.concat(chunks).subarray(0, maxBytes + 1);
}
