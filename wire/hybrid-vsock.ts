/**
 * Hybrid vsock (Firecracker's form), the host's view of an enclave's vsock without AF_VSOCK.
 *
 *   host to enclave   connect to `<dir>/vsock.sock`, send `CONNECT <port>\n`, read `OK <n>\n`, then raw bytes
 *   enclave to host   port P arrives as a connection to `<dir>/vsock.sock_P`, raw bytes from the start
 *
 * In the local backend the enclave's listener on port P is the Unix socket `<dir>/guest/P`. CIDs 2 and 3 both mean
 * the host. Sockets of the host are 0600; those in `guest` are 0660, in the group of the enclave's root.
 */
import { KitError } from "../core/errors.ts";

/** Longest line of the handshake, newline included. */
export const MAX_HANDSHAKE_BYTES = 32;
/** Subfolder of the vsock directory in which the enclave makes its listeners. */
export const GUEST_FOLDER = "guest";
/** Name of the socket that the host connects to. */
export const HOST_SOCKET = "vsock.sock";

/** Name of the socket on which the host hears connections to `port`. */
export function hostListenerName(port: number): string {
  return `${HOST_SOCKET}_${port}`;
}

export function encodeConnect(port: number): string {
  return `CONNECT ${port}\n`;
}

export function encodeOk(localPort: number): string {
  return `OK ${localPort}\n`;
}

/** Port of a `CONNECT` line (without its newline). @throws E_VSOCK_HANDSHAKE */
export function decodeConnect(line: string): number {
  return decodePort(line, /^CONNECT ([0-9]{1,10})$/);
}

/** Local port of an `OK` line (without its newline). @throws E_VSOCK_HANDSHAKE */
export function decodeOk(line: string): number {
  return decodePort(line, /^OK ([0-9]{1,10})$/);
}

function decodePort(line: string, pattern: RegExp): number {
  const port = Number(pattern.exec(line)?.[1] ?? Number.NaN);
  if (!Number.isInteger(port) || port < 0 || port > 0xff_ff_ff_ff) {
    throw new KitError("E_VSOCK_HANDSHAKE", `not a vsock handshake: ${JSON.stringify(line.slice(0, 40))}`);
  }
  return port;
}
