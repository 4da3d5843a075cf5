/**
 * Copies: the bytes of a request or an answer are those of a stream of a session, in which the program of
 * archive/archive-main.ts packs or unpacks. The gateway looks at none of them.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import type { FastifyReply, FastifyRequest } from "fastify";

import { KitError } from "../../core/errors.ts";
import { type ArchiveSummary, decodeArchiveReport } from "../../wire/archive-report.ts";
import type { ArchiveRequest, SessionStatus } from "../../wire/session-frames.ts";
import { decodeSessionStatus, decodeTicket } from "./session-answers.ts";
import { openStreams } from "./session-streams.ts";
import type { SupervisorClient } from "./supervisor-client.ts";

export interface ArchiveContext {
  readonly client: SupervisorClient;
  readonly streamSocket: string;
  /** Aborts when the client is gone. */
  readonly signal: AbortSignal;
}

const WAIT_MS = 25_000;
/** Copies have no terminal, and sessions have a size. */
const NO_SIZE = { rows: 24, columns: 80 };

/** A refusal before the first byte is an answer; after it the connection is cut. @throws E_ARCHIVE_* */
export async function getArchive(path: string, reply: FastifyReply, context: ArchiveContext): Promise<void> {
  const { id, stream } = await startCopy({ direction: "pack", path }, context);
  try {
    if (!(await hasBytes(stream))) {
      await awaitSummary(id, context);
      throw new KitError("E_ARCHIVE_STREAM", "the program that packs sent nothing");
    }
    reply.hijack();
    reply.raw.writeHead(200, { "content-type": "application/x-tar", "cache-control": "no-store" });
    await pipeline(stream, reply.raw, { end: false, signal: context.signal });
    await awaitSummary(id, context);
    reply.raw.end();
  } catch (error) {
    if (!reply.raw.headersSent) throw error;
    reply.raw.destroy(); // without the last chunk, the client knows that it has not all
  } finally {
    stream.destroy();
  }
}

/** @throws E_ARCHIVE_* */
export async function putArchive(
  path: string,
  request: FastifyRequest,
  context: ArchiveContext & { readonly reply: FastifyReply },
): Promise<void> {
  const { body } = request;
  if (!(body instanceof Readable)) {
    throw new KitError("E_CONTROL_REQUEST", "the body must be of type application/x-tar");
  }
  // A connection that is to be closed is closed with the answer, and a client that still sends would hear of that alone.
  context.reply.raw.shouldKeepAlive = true;
  const { id, stream } = await startCopy({ direction: "unpack", path }, context);
  try {
    await sendBody(body, stream, context.signal);
    await context.reply.send(await awaitSummary(id, context));
  } finally {
    stream.destroy();
  }
}

/**
 * Until all is sent, or the program has closed its end: why, it says itself. Then the rest is read and dropped, because a
 * client that is cut off while it sends never sees the answer.
 */
async function sendBody(body: Readable, stream: Socket, signal: AbortSignal): Promise<void> {
  const over = Promise.withResolvers<void>();
  stream.once("finish", over.resolve).once("close", over.resolve);
  signal.addEventListener("abort", () => over.resolve(), { once: true });
  body.pipe(stream);
  await over.promise;
  body.unpipe(stream).resume();
}

async function startCopy(
  params: ArchiveRequest,
  { client, streamSocket, signal }: ArchiveContext,
): Promise<{ readonly id: number; readonly stream: Socket }> {
  const ticket = decodeTicket(await client.call({ method: "archive.create", params }));
  const streams = await openStreams(streamSocket, ticket, signal);
  const [stream] = streams.values();
  if (stream === undefined) throw new KitError("E_CONTROL_GONE", "the supervisor gave no stream");
  await client.call({ method: "exec.start", params: { id: ticket.id, ...NO_SIZE } });
  return { id: ticket.id, stream };
}

async function hasBytes(stream: Socket): Promise<boolean> {
  while (stream.readableLength === 0 && !stream.readableEnded && !stream.destroyed) {
    // Reading nothing is what makes the stream begin to read, and to see its end.
    stream.read(0);
    await Promise.race([once(stream, "readable"), once(stream, "end"), once(stream, "close")]);
  }
  return stream.readableLength > 0;
}

/** What the program says at its end. @throws what it refused, E_ARCHIVE_STREAM if it said nothing */
async function awaitSummary(id: number, { client, signal }: ArchiveContext): Promise<ArchiveSummary> {
  let status: SessionStatus;
  do {
    const answer = await client.call({ method: "exec.wait", params: { id, waitMs: WAIT_MS } }, signal);
    signal.throwIfAborted();
    status = decodeSessionStatus(answer);
  } while (status.state !== "ended");
  if (status.report !== "") return decodeArchiveReport(status.report);
  throw new KitError(
    "E_ARCHIVE_STREAM",
    `the program that copies ended without a word: ${status.reason ?? ""}`,
  );
}
