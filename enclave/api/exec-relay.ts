/**
 * Carries the bytes of an exec session between the client's connection and the streams of its process. Without a
 * terminal the process's output comes in frames (wire/control.ts). Nothing is held but one chunk a direction.
 */
import { once } from "node:events";
import type { Duplex, Readable } from "node:stream";

import { EXEC_FRAME_HEADER_BYTES, EXEC_STREAM, MAX_EXEC_FRAME_BYTES } from "../../wire/control.ts";

export interface ExecStreams {
  readonly stdin: Duplex;
  /** Absent with a terminal: stdin goes both ways. */
  readonly stdout?: Duplex | undefined;
  readonly stderr?: Duplex | undefined;
}

/** Resolves when all output was sent and the client's connection is ended, or broken. Destroys everything. */
export async function relayExec(client: Duplex, { stdin, stdout, stderr }: ExecStreams): Promise<void> {
  const gone = new AbortController();
  const streams = [stdin, stdout, stderr].filter((stream) => stream !== undefined);
  const hangUp = (): void => {
    gone.abort();
    for (const stream of streams) stream.destroy();
  };
  client.once("close", hangUp).on("error", hangUp);
  client.pipe(stdin);
  try {
    if (stdout === undefined || stderr === undefined) await sendRaw(stdin, client, gone.signal);
    else {
      await Promise.all([
        sendFrames(stdout, client, { number: EXEC_STREAM.stdout, signal: gone.signal }),
        sendFrames(stderr, client, { number: EXEC_STREAM.stderr, signal: gone.signal }),
      ]);
    }
    client.end();
    stdin.destroy();
    // The client closes when it has seen the end; its input does not matter any more.
    client.unpipe(stdin).resume();
    await waitForClose(client);
  } finally {
    client.destroy();
    hangUp();
  }
}

const CLOSE_TIMEOUT_MS = 5_000;

async function waitForClose(client: Duplex): Promise<void> {
  if (client.closed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
  client.once("end", resolve).once("close", resolve);
  await promise;
  clearTimeout(timer);
}

async function sendRaw(source: Readable, client: Duplex, signal: AbortSignal): Promise<void> {
  for await (const chunk of chunksOf(source)) await write(client, chunk, signal);
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

async function write(client: Duplex, chunk: Buffer, signal: AbortSignal): Promise<void> {
  if (!client.write(chunk)) await once(client, "drain", { signal });
}

async function* chunksOf(source: Readable): AsyncGenerator<Buffer> {
  for await (const chunk of source.iterator({ destroyOnReturn: false })) {
    if (Buffer.isBuffer(chunk)) yield chunk;
  }
}
