/**
 * SOCKS5 (RFC 1928) as far as a program inside needs it: no authentication, CONNECT to a name or an address.
 *
 *   client  5  count  methods (count)                      server  5  method (0, or 0xff: none of them)
 *   client  5  command (1)  0  type  address  port (2)     server  5  reply  0  1  0.0.0.0  port 0
 *   type 1: 4 bytes; type 3: length (1) and a name; type 4: 16 bytes
 */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { type EgressTarget, toTarget } from "../policy/egress-policy.ts";
import { formatAddress } from "../policy/network.ts";
import { readHandshake } from "./handshake-reader.ts";
import type { ProxyRequest, RefusalReason } from "./proxy-request.ts";

const VERSION = 5;
const NO_AUTHENTICATION = 0;
const NO_METHOD = 0xff;
const CONNECT = 1;
const TYPE = { ipv4: 1, name: 3, ipv6: 4 } as const;
const REPLY = {
  done: 0,
  failure: 1,
  notAllowed: 2,
  unreachable: 4,
  refused: 5,
  command: 7,
  type: 8,
} as const;
const MAX_GREETING_BYTES = 2 + 255;
const MAX_REQUEST_BYTES = 4 + 1 + 255 + 2;

/** @throws E_EGRESS_PROXY, E_EGRESS_NAME after the client was told; the signal's reason */
export async function readSocksRequest(stream: Duplex, signal: AbortSignal): Promise<ProxyRequest> {
  const greeting = await readHandshake(stream, { maxBytes: MAX_GREETING_BYTES, find: findGreeting, signal });
  if (!greeting.subarray(2).includes(NO_AUTHENTICATION)) {
    stream.end(Uint8Array.of(VERSION, NO_METHOD));
    throw refuse("the client offers no method without authentication");
  }
  stream.write(Uint8Array.of(VERSION, NO_AUTHENTICATION));
  const find = (bytes: Buffer): number | undefined => findRequest(bytes, stream);
  const request = await readHandshake(stream, { maxBytes: MAX_REQUEST_BYTES, find, signal });
  const target = readTarget(request, stream);
  return {
    target,
    accept: () => void stream.write(reply(REPLY.done)),
    refuse: (reason) => void stream.end(reply(replyOf(reason)), () => stream.destroy()),
  };
}

function findGreeting(bytes: Buffer): number | undefined {
  const [version, count] = bytes;
  if (version !== VERSION) throw refuse(`SOCKS ${version ?? ""} is not spoken here, only 5`);
  if (count === undefined) return undefined;
  if (count === 0) throw refuse("the client offers no method");
  return bytes.length >= 2 + count ? 2 + count : undefined;
}

function findRequest(bytes: Buffer, stream: Duplex): number | undefined {
  const [version, command, reserved, type, length] = bytes;
  if (version !== VERSION || (reserved ?? 0) !== 0) throw refuse("no SOCKS request");
  if (command !== undefined && command !== CONNECT)
    throw tell(stream, REPLY.command, "only CONNECT is carried out");
  if (type === undefined) return undefined;
  const sizeBytes = addressBytes(type, length);
  if (sizeBytes === undefined) throw tell(stream, REPLY.type, `address type ${type} is unknown`);
  return bytes.length >= 4 + sizeBytes + 2 ? 4 + sizeBytes + 2 : undefined;
}

/** Of the address with its length byte; NaN while that is not there. */
function addressBytes(type: number, length: number | undefined): number | undefined {
  if (type === TYPE.ipv4) return 4;
  if (type === TYPE.ipv6) return 16;
  return type === TYPE.name ? 1 + (length ?? Number.NaN) : undefined;
}

function readTarget(request: Buffer, stream: Duplex): EgressTarget {
  const port = request.readUInt16BE(request.length - 2);
  const isName = request[3] === TYPE.name;
  const bytes = request.subarray(isName ? 5 : 4, -2);
  if (port === 0) throw tell(stream, REPLY.notAllowed, "port 0");
  try {
    return toTarget(isName ? bytes.toString("latin1") : formatAddress(bytes), port);
  } catch (error) {
    tell(stream, REPLY.notAllowed, "");
    throw error;
  }
}

function replyOf(reason: RefusalReason): number {
  if (reason === "refused") return REPLY.refused;
  if (reason === "unreachable" || reason === "notResolved") return REPLY.unreachable;
  return reason === "busy" ? REPLY.failure : REPLY.notAllowed;
}

function reply(code: number): Uint8Array {
  return Uint8Array.of(VERSION, code, 0, TYPE.ipv4, 0, 0, 0, 0, 0, 0);
}

function tell(stream: Duplex, code: number, why: string): KitError {
  stream.end(reply(code));
  return refuse(why);
}

function refuse(why: string): KitError {
  return new KitError("E_EGRESS_PROXY", `no SOCKS5: ${why}`);
}
