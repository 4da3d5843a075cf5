import type { Duplex } from "node:stream";

/** How long, and for how many bytes, a client may go on before it is cut off. */
const LINGER_MS = 1000;
const MAX_IGNORED_BYTES = 64 * 1024;

/**
 * Writes the last bytes that a client gets, and closes. A socket that is closed with bytes unread resets its peer, which
 * may then never see the answer; so the client is read, and ignored, until it has ended too.
 * @returns when the stream is destroyed. Never rejects.
 */
export async function endWith(stream: Duplex, bytes: Uint8Array): Promise<void> {
  const { promise: cut, resolve: stop } = Promise.withResolvers<void>();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const { promise: said, resolve: say } = Promise.withResolvers<void>();
  let ignoredBytes = 0;
  const ignore = (chunk: Uint8Array): void => {
    ignoredBytes += chunk.length;
    if (ignoredBytes > MAX_IGNORED_BYTES) stop();
  };
  const timer = setTimeout(stop, LINGER_MS);
  // The listener of errors stays: writes in progress may fail after all else is over.
  stream
    .on("data", ignore)
    .once("end", end)
    .once("close", stop)
    .on("error", () => stop());
  if (stream.destroyed) stop();
  if (stream.readableEnded) end();
  stream.resume();
  stream.end(bytes, () => say());
  await Promise.race([cut, Promise.all([ended, said])]);
  clearTimeout(timer);
  stream.off("data", ignore).off("end", end).off("close", stop).destroy();
}
