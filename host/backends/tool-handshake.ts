/** The handshake of hybrid vsock (wire/hybrid-vsock.ts) on the host's side: a tool of this host asks for a port. */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

import { withDeadline } from "../../core/deadline.ts";
import { relay } from "../../pf-proxy/relay.ts";
import { decodeConnect, encodeOk, MAX_HANDSHAKE_BYTES } from "../../wire/hybrid-vsock.ts";
import { readLine } from "../line-reader.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;

export interface ToolHandshakeOptions {
  /** Connects to a port of the enclave. */
  readonly dial: (port: number, signal: AbortSignal) => Promise<Duplex>;
  readonly signal: AbortSignal;
}

/** CONNECT from a tool of the host: connects it to the enclave, or closes. Never rejects. */
export async function serveTool(tool: Socket, { dial, signal }: ToolHandshakeOptions): Promise<void> {
  const deadline = withDeadline(signal, HANDSHAKE_TIMEOUT_MS);
  tool.on("error", () => tool.destroy()); // between two readers nobody else would hear of it
  try {
    const { line, rest } = await readLine(tool, MAX_HANDSHAKE_BYTES, deadline);
    const port = decodeConnect(line);
    const guest = await dial(port, deadline);
    tool.write(encodeOk(port));
    if (rest.length > 0) guest.write(rest);
    await relay(tool, guest, { signal });
  } catch {
    tool.destroy(); // the peer broke the handshake or the port is closed: both are told by the close
  }
}
