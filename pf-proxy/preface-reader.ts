import type { Duplex } from "node:stream";

import { KitError } from "../core/errors.ts";

/**
 * Takes exactly `sizeBytes` from the start of a paused stream; what follows stays in it, unread.
 * @throws `code` if the stream ends first; the signal's reason; the stream's own error.
 */
export async function readExactly(
  stream: Duplex,
  sizeBytes: number,
  signal: AbortSignal,
  code: "E_INGRESS_PREFACE" | "E_EGRESS_PREFACE" = "E_INGRESS_PREFACE",
): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const end = (): void => {
    reject(new KitError(code, `the connection ended before its ${sizeBytes} first bytes`));
  };
  const take = (): void => {
    // null: not yet enough. After the end of input read() gives whatever is left.
    const bytes: unknown = stream.read(sizeBytes);
    if (!(bytes instanceof Uint8Array)) return;
    if (bytes.length === sizeBytes) resolve(bytes);
    else end();
  };
  const abort = (): void => reject(signal.reason);
  const listeners = [
    ["readable", take],
    ["end", end],
    ["close", end],
    ["error", reject],
  ] as const;
  for (const [name, listener] of listeners) stream.on(name, listener);
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) abort();
    take();
    return await promise;
  } finally {
    signal.removeEventListener("abort", abort);
    for (const [name, listener] of listeners) stream.off(name, listener);
  }
}
