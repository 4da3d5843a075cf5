/**
 * Raw bytes both ways between two sockets, with what TCP can say carried across Unix sockets and vsock, which cannot:
 *
 *   end of input   the other side's output is half-closed; the opposite direction goes on
 *   reset          the other side is reset; where it cannot be, it is closed fully, and the peer's relay resets
 *
 * A full close must therefore be told from a half-close. Both arrive as end of input, so a write of zero bytes asks
 * the kernel: EPIPE means that the peer is gone altogether. On TCP that write never fails after a clean end, so both
 * sides are treated alike. A direction that this side had already ended cannot be asked; its end counts as clean.
 *
 * Buffers: each direction holds at most one chunk beyond the high-water mark of the stream it writes to.
 */
import { Socket } from "node:net";
import { type Duplex, Transform } from "node:stream";

import { isErrno } from "../core/errors.ts";

export interface RelayOptions {
  /** Aborting resets both sides. */
  readonly signal: AbortSignal;
  /** Hears of every chunk as it is read. */
  readonly onBytes?: (from: "a" | "b", sizeBytes: number) => void;
  /** Looks at what `a` sends, and at what `b` answers; a refusal resets both sides. */
  readonly inspector?: RelayInspector;
}

/** Bytes that it withholds are bounded by itself. */
export interface RelayInspector {
  /** The bytes of `a` that may pass now. @throws what ends the relay */
  push(chunk: Buffer): readonly Buffer[];
  end(): readonly Buffer[];
  /** Bytes of `a` that may pass now that `b` has sent this. */
  fromServer(chunk: Buffer): readonly Buffer[];
}

export interface RelayResult {
  /** ended: both directions ended cleanly. reset: a side failed or went away. aborted: by the signal. */
  readonly outcome: "ended" | "reset" | "aborted";
  readonly bytesFromA: number;
  readonly bytesFromB: number;
  /** Errno name, message or reason; null for a clean end. */
  readonly reason: string | null;
  /** What ended it otherwise than cleanly. */
  readonly cause?: unknown;
}

const EMPTY = new Uint8Array(0);

/**
 * Relays until both directions ended or one side failed; never rejects. Both streams are destroyed afterwards. Both
 * must allow half-open connections and must not have been read beyond what is to be relayed.
 */
export async function relay(a: Duplex, b: Duplex, options: RelayOptions): Promise<RelayResult> {
  const { signal, inspector } = options;
  const { promise: failure, reject: fail } = Promise.withResolvers<never>();
  const resets = [prepareReset(a), prepareReset(b)];
  const abort = (): void => fail(signal.reason);
  const counts = [countBytes(a, "a", options), countBytes(b, "b", options)] as const;
  const gate = inspector === undefined ? undefined : openGate(inspector, b);
  gate?.on("error", fail);
  failure.catch(() => undefined);
  for (const stream of [a, b]) watch(stream, fail);
  signal.addEventListener("abort", abort, { once: true });
  try {
    signal.throwIfAborted();
    await Promise.race([failure, Promise.all([forward(a, b, gate), forward(b, a)])]);
    return result("ended", counts, null);
  } catch (error) {
    for (const reset of resets) reset();
    const outcome = signal.aborted ? "aborted" : "reset";
    return { ...result(outcome, counts, describe(error)), cause: error };
  } finally {
    signal.removeEventListener("abort", abort);
    gate?.destroy();
    a.destroy();
    b.destroy();
  }
}

/** A close is a failure unless both directions of the stream were done. */
function watch(stream: Duplex, fail: (error: Error) => void): void {
  const check = (): void => {
    if (!stream.readableEnded || !stream.writableFinished) fail(new Error("closed"));
  };
  stream.on("error", fail).once("close", check);
  if (stream.destroyed) check();
}

/** Resolves when everything of `source` is written and the end is passed on; rejects if `source`'s peer is gone. */
async function forward(source: Duplex, target: Duplex, gate?: Transform): Promise<void> {
  await new Promise<void>((resolve) => {
    const last = gate ?? source;
    last.once("end", resolve);
    // The end may have been seen before the relay began, by whoever read a preface.
    if (source.readableEnded && gate === undefined) resolve();
    else if (source.readableEnded) gate?.end();
    if (gate !== undefined) source.pipe(gate);
    last.pipe(target, { end: false });
  });
  await assertHalfClose(source);
  await new Promise<void>((resolve) => {
    target.end(resolve);
  });
}

async function assertHalfClose(source: Duplex): Promise<void> {
  if (source.writableEnded) return;
  // Writes in progress fail by themselves, in the turn of the event loop in which the end was seen.
  if (source.writableLength > 0) return nextTurn();
  await new Promise<void>((resolve, reject) => {
    source.write(EMPTY, (error) => (error ? reject(error) : resolve()));
  });
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** What passes from `a`, in order with what is let go because of an answer. */
function openGate(inspector: RelayInspector, b: Duplex): Transform {
  const gate = new Transform({
    transform: (chunk: Buffer, _encoding, done) => run(done, () => inspector.push(chunk)),
    flush: (done) => run(done, () => inspector.end()),
  });
  const run = (done: (error?: Error | null) => void, look: () => readonly Buffer[]): void => {
    try {
      for (const bytes of look()) gate.push(bytes);
      done();
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  };
  b.on("data", (chunk: Buffer) => {
    run(
      (error) => void (error ? gate.destroy(error) : undefined),
      () => inspector.fromServer(chunk),
    );
  });
  return gate;
}

function countBytes(stream: Duplex, from: "a" | "b", { onBytes }: RelayOptions): { readonly bytes: number } {
  const count = { bytes: 0 };
  stream.on("data", (chunk: Uint8Array) => {
    count.bytes += chunk.length;
    onBytes?.(from, chunk.length);
  });
  return count;
}

/** Whether a socket is TCP must be asked while it is connected. */
function prepareReset(stream: Duplex): () => void {
  const isTcp = stream instanceof Socket && stream.remotePort !== undefined;
  return () => {
    if (isTcp && !stream.destroyed) stream.resetAndDestroy();
    else stream.destroy();
  };
}

function describe(error: unknown): string {
  if (isErrno(error)) return error.code ?? error.message;
  return error instanceof Error ? error.message : String(error);
}

function result(
  outcome: RelayResult["outcome"],
  [a, b]: readonly [{ readonly bytes: number }, { readonly bytes: number }],
  reason: string | null,
): RelayResult {
  return { outcome, bytesFromA: a.bytes, bytesFromB: b.bytes, reason };
}
