/**
 * Whether a client that says nothing is still there. On Unix sockets and vsock a full close looks like the end of its
 * input, which every client without input sends at once; and who does not read, because the other side has no room,
 * sees not even that. So a write of zero bytes asks the kernel now and then: it fails if nobody can read the answer, and
 * sends nothing if somebody can.
 */
import type { Duplex } from "node:stream";

const CHECK_MS = 1_000;
const EMPTY = new Uint8Array(0);

/** Destroys a connection whose client is gone; until disposed. */
export function watchPresence(client: Duplex): Disposable {
  /** Bytes that wait to be sent fail by themselves. */
  const check = (): void => {
    if (client.writable && client.writableLength === 0) client.write(EMPTY);
  };
  const timer = setInterval(check, CHECK_MS);
  client.once("end", check);
  return {
    [Symbol.dispose]: () => {
      client.off("end", check);
      clearInterval(timer);
    },
  };
}
