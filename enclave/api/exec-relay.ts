/**
 * Carries the bytes of an exec session between the client's connection and the streams of its process. Without a
 * terminal the process's output comes in frames (wire/control.ts). Nothing is held but one chunk a direction.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import type { Duplex, Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";

import { EXEC_FRAME_HEADER_BYTES, EXEC_STREAM, MAX_EXEC_FRAME_BYTES } from "../../wire/control.ts";
import { watchPresence } from "./client-presence.ts";

export interface ExecStreams {
  readonly stdin: Socket;
  /** Absent with a terminal: stdin goes both ways. */
  readonly stdout?: Socket | undefined;
  readonly stderr?: Socket | undefined;
}

/** Something that the command left behind may hold its output open; silent for so long, it is not waited for. */
const SILENCE_MS = 1_000;
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Resolves when all output was sent and the client's connection is ended, or broken. Destroys everything.
 * @param ended resolves when the command has ended, and also when the client is gone.
 */
export async function relayExec(
  client: Duplex,
  streams: ExecStreams,
  ended: Promise<unknown>,
): Promise<void> {
  const gone = new AbortController();
  const sources = [streams.stdin, streams.stdout, streams.stderr].filter((one) => one !== undefined);
  const hangUp = (): void => {
    gone.abort();
    for (const source of sources) source.destroy();
  };
  client.once("close", hangUp).on("error", hangUp);
  if (client.destroyed) hangUp();
  client.pipe(streams.stdin);
  using _presence = watchPresence(client);
  try {
    const output = sendOutput(streams, client, gone.signal);
    const silence = ended.then(async () => await untilSilent(sources, client, gone.signal));
    await Promise.race([Promise.all([output, ended]), silence]);
    // The client closes when it has seen the end; its input does not matter any more.
    client.unpipe(streams.stdin).resume();
    for (const source of sources) source.destroy();
    await endClient(client);
  } finally {
    client.destroy();
    hangUp();
  }
}

async function sendOutput(
  { stdin, stdout, stderr }: ExecStreams,
  client: Duplex,
  signal: AbortSignal,
): Promise<void> {
  if (stdout === undefined || stderr === undefined) return await sendRaw(stdin, client, signal);
  await Promise.all([
    sendFrames(stdout, client, { number: EXEC_STREAM.stdout, signal }),
    sendFrames(stderr, client, { number: EXEC_STREAM.stderr, signal }),
  ]);
}

/** Until nothing came for a while and everything that had come was taken. */
async function untilSilent(sources: readonly Socket[], client: Duplex, signal: AbortSignal): Promise<void> {
  let before: number | undefined;
  while (!signal.aborted) {
    const count = sources.reduce((sum, source) => sum + source.bytesRead, 0);
    if (count === before && client.writableLength === 0) return;
    before = count;
    await delay(SILENCE_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** However slowly the client reads, it gets everything; only its own end is not waited for very long. */
async function endClient(client: Duplex): Promise<void> {
  if (client.destroyed) return;
  await new Promise<void>((resolve) => {
    client.end(() => resolve());
  });
  if (client.closed || client.readableEnded) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
  client.once("end", resolve).once("close", resolve);
  await promise;
  clearTimeout(timer);
}

async function sendRaw(source: Readable, client: Duplex, signal: AbortSignal): Promise<void> {
  for await (const chunk of chunksOf(source)) {
    if (!client.write(chunk)) await once(client, "drain", { signal });
  }
}

async function sendFrames(
  source: Readable,
  client: Duplex,
  { number, signal }: { readonly number: number; readonly signal: AbortSignal },
): Promise<void> {
  for await (const chunk of chunksOf(source)) {
    for (let at = 0; at < chunk.length; at += MAX_EXEC_FRAME_BYTES) {
      const piece = chunk.subarray(at, at + MAX_EXEC_FRAME_BYTES);
      const header = Buffer.alloc(EXEC_FRAME_HEADER_BYTES);
      header.writeUInt8(number);
      header.writeUInt32BE(piece.length, 4);
      client.cork();
      client.write(header);
      const hasRoom = client.write(piece);
      client.uncork();
      if (!hasRoom) await once(client, "drain", { signal });
    }
  }
}

/** A process that ends with unread input resets its stream: after its last byte, so that is an end like any other. */
async function* chunksOf(source: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of source.iterator({ destroyOnReturn: false })) {
      if (Buffer.isBuffer(chunk)) yield chunk;
    }
  } catch {
    source.destroy();
  }
}
