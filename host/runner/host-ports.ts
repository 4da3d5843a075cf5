/** What the host answers on the vsock ports that init dials: the heartbeat and init's one line. */
import type { Duplex } from "node:stream";

import { withDeadline } from "../../core/deadline.ts";
import type { Log } from "../../core/log.ts";
import { decodeInitLine, type InitLine, MAX_INIT_LINE_BYTES } from "../../wire/init-line.ts";
import { HEARTBEAT_BYTE } from "../../wire/ports.ts";
import { readLine } from "../line-reader.ts";
import { toOneLine } from "./one-line.ts";

const HEARTBEAT_TIMEOUT_MS = 5_000;
const LINE_TIMEOUT_MS = 5_000;

/** One byte each way, then the enclave closes. */
export function answerHeartbeat(socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), HEARTBEAT_TIMEOUT_MS);
  socket.once("close", () => clearTimeout(timer));
  socket.on("error", () => socket.destroy());
  socket.once("data", (bytes: Buffer) => {
    if (bytes[0] === HEARTBEAT_BYTE) socket.end(Uint8Array.of(HEARTBEAT_BYTE));
    else socket.destroy();
  });
  socket.resume();
}

/** Hands what init says to `receive`; anything else is logged and dropped. */
export async function receiveInitLine(
  socket: Duplex,
  receive: (line: InitLine) => void,
  log: Log,
): Promise<void> {
  try {
    const { line } = await readLine(socket, MAX_INIT_LINE_BYTES, withDeadline(undefined, LINE_TIMEOUT_MS));
    const said = decodeInitLine(Buffer.from(line, "latin1").toString("utf8"));
    receive(said.kind === "end" ? { ...said, reason: toOneLine(said.reason) } : said);
  } catch (error) {
    log.warn("not a line of init", { reason: error instanceof Error ? error.message : String(error) });
  } finally {
    socket.destroy();
  }
}
