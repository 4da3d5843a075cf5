/** The gateway's side of session streams (wire/session-frames.ts): raw connections that become descriptors of a process. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

import { KitError } from "../../core/errors.ts";
import { withDeadline } from "../../core/deadline.ts";
import { type SessionTicket, STREAM_ACCEPTED } from "../../wire/session-frames.ts";

const OPEN_TIMEOUT_MS = 5_000;

/** Every stream that the ticket names, paused; all or none. @throws E_CONTROL_GONE, E_DEADLINE */
export async function openStreams(
  path: string,
  { token, streams }: SessionTicket,
  signal: AbortSignal,
): Promise<ReadonlyMap<number, Socket>> {
  const deadline = withDeadline(signal, OPEN_TIMEOUT_MS);
  const opened = new Map<number, Socket>();
  try {
    for (const descriptor of streams) {
      opened.set(descriptor, await openStream(path, `${token}${descriptor}`, deadline));
    }
    return opened;
  } catch (error) {
    for (const socket of opened.values()) socket.destroy();
    throw error;
  }
}

async function openStream(path: string, hello: string, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  // Between two readers nobody else would hear of a failure; whoever uses the stream listens as well.
  socket.on("error", () => socket.destroy());
  const cancel = (): void => void socket.destroy();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    socket.write(hello);
    const accepted = await readByte(socket);
    signal.throwIfAborted();
    if (accepted === STREAM_ACCEPTED) return socket;
    throw new KitError("E_CONTROL_GONE", "the supervisor did not take a stream");
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

/** Undefined if the stream ends first. */
async function readByte(socket: Socket): Promise<number | undefined> {
  for (;;) {
    const chunk: unknown = socket.read(1);
    if (chunk instanceof Uint8Array) return chunk[0];
    if (socket.destroyed || socket.readableEnded) return undefined;
    await Promise.race([once(socket, "readable"), once(socket, "close")]).catch(() => undefined);
  }
}
