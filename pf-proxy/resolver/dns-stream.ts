/**
 * DNS over one connection (RFC 7766). Questions may follow each other without waiting; answers come in their order.
 *
 *   length (2)  message, of which DNS_HEADER_BYTES is the least and MAX_DNS_BYTES.tcp the most
 */
import type { Socket } from "node:net";

import { KitError } from "../../core/errors.ts";
import { DNS_HEADER_BYTES, MAX_DNS_BYTES } from "./dns-message.ts";
import type { Resolver } from "./resolver.ts";

export interface DnsStreamOptions {
  readonly resolver: Resolver;
  /** From one question to the end of the next, and to the client's taking of an answer. */
  readonly timeoutMs: number;
  readonly onQuestion: () => void;
}

export const DNS_STREAM_TIMEOUT_MS = 10_000;
const LENGTH_BYTES = 2;

/** Owns the socket; returns when it is closed: by its client, after nonsense, or when its time is over. */
export async function serveDnsStream(socket: Socket, options: DnsStreamOptions): Promise<void> {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.once("close", resolve).on("error", () => undefined);
  const timer = setTimeout(() => socket.destroy(), options.timeoutMs);
  const onQuestion = (): void => {
    timer.refresh();
    options.onQuestion();
  };
  try {
    await answerAll(socket, { ...options, onQuestion });
    await Promise.race([closed, new Promise<void>((done) => socket.end(done))]);
  } catch {
    // The client reset the connection, broke the protocol, or was too slow.
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** Until the client ends. @throws E_DNS_MESSAGE, errno */
async function answerAll(socket: Socket, { resolver, onQuestion }: DnsStreamOptions): Promise<void> {
  let kept: Buffer = Buffer.alloc(0);
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    if (!Buffer.isBuffer(chunk)) throw new TypeError("a socket gives buffers");
    kept = kept.length === 0 ? chunk : Buffer.concat([kept, chunk]);
    for (let end = endOfMessage(kept); end !== undefined; end = endOfMessage(kept)) {
      onQuestion();
      const answer = await resolver.answer(kept.subarray(LENGTH_BYTES, end), "tcp");
      if (answer === undefined) throw new KitError("E_DNS_MESSAGE", "not a question");
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt16BE(answer.length);
      // A client that does not take its answers is not asked for more questions.
      if (!socket.write(Buffer.concat([length, answer]))) await untilDrained(socket);
      kept = kept.subarray(end);
    }
  }
}

/** Undefined while the first message is not whole. @throws E_DNS_MESSAGE for a length that no message has */
function endOfMessage(bytes: Buffer): number | undefined {
  if (bytes.length < LENGTH_BYTES) return undefined;
  const lengthBytes = bytes.readUInt16BE(0);
  if (lengthBytes < DNS_HEADER_BYTES || lengthBytes > MAX_DNS_BYTES.tcp)
    throw new KitError("E_DNS_MESSAGE", `no message has ${lengthBytes} bytes`);
  return bytes.length < LENGTH_BYTES + lengthBytes ? undefined : LENGTH_BYTES + lengthBytes;
}

async function untilDrained(socket: Socket): Promise<void> {
  if (socket.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("drain", resolve).once("close", resolve);
  await promise;
  socket.off("drain", resolve).off("close", resolve);
}
