/** Endless answers of the control API: one JSON value a line, sent as they come, with back-pressure. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";

/**
 * Sends every batch that `batches` gives, then ends. Holds at most one batch: the next is asked for only after the
 * client took the last.
 * @param signal aborts when the client is gone.
 */
export async function sendNdjson(
  response: ServerResponse,
  batches: AsyncIterable<readonly unknown[]>,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  // A client that follows must see at once that it was accepted, even if nothing is there yet.
  response.flushHeaders();
  for await (const batch of batches) {
    if (signal.aborted) return;
    if (batch.length === 0) continue;
    const text = batch.map((value) => `${JSON.stringify(value)}\n`).join("");
    if (!response.write(text)) await once(response, "drain", { signal });
  }
  response.end();
}
