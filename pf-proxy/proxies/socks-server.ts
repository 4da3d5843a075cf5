/**
 * SOCKS5 (RFC 1928) as far as a program inside needs it: no authentication, CONNECT to a name or an address.
 *
 *   client  5  count  methods (count)                      server  5  method (0, or 0xff: none of them)
 *   client  5  command (1)  0  type  address  port (2)     server  5  reply  0  1  0.0.0.0  port 0
 *   type 1: 4 bytes; type 3: length (1) and a name; type 4: 16 bytes
 *
 * Names are ASCII. Other bytes have no encoding in SOCKS, and one that is guessed wrongly is another name.
 */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { type EgressTarget, toTarget } from "../policy/egress-policy.ts";
import { formatAddress } from "../policy/network.ts";
import { quoteText } from "../policy/quoted-text.ts";
import { readHandshake } from "./handshake-reader.ts";
import {
  createFault,
  createProxyRequest,
  ProxyFault,
  type ProxyRequest,
  type RefusalReason,
  tellFaults,
} from "./proxy-request.ts";

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
const OLD_VERSION = 4;
/** SOCKS4: request rejected. */
const OLD_REFUSAL = Uint8Array.of(0, 0x5b, 0, 0, 0, 0, 0, 0);

/** @throws E_EGRESS_PROXY, E_EGRESS_NAME after the client was told and let go; the signal's reason as a KitError */
export async function readSocksRequest(stream: Duplex, signal: AbortSignal): Promise<ProxyRequest> {
  return await tellFaults(stream, async () => {
    const greeting = { maxBytes: MAX_GREETING_BYTES, find: findGreeting, onTooLong: fail, signal };
    const methods = (await readHandshake(stream, greeting)).subarray(2);
    if (!methods.includes(NO_AUTHENTICATION))
      throw refuse("the client offers no method without authentication", Uint8Array.of(VERSION, NO_METHOD));
    stream.write(Uint8Array.of(VERSION, NO_AUTHENTICATION));
    const request = { maxBytes: MAX_REQUEST_BYTES, find: findRequest, onTooLong: fail, signal };
    const target = readTarget(await readHandshake(stream, request));
    const refused = (reason: RefusalReason): Uint8Array => reply(replyOf(reason));
    return createProxyRequest(stream, target, { accepted: reply(REPLY.done), refused });
  });
}

function findGreeting(bytes: Buffer): number | undefined {
  const [version, count] = bytes;
  if (version === OLD_VERSION) throw refuse("the client speaks SOCKS4", OLD_REFUSAL);
  if (version !== VERSION)
    throw refuse("the client speaks something else", Uint8Array.of(VERSION, NO_METHOD));
  if (count === undefined) return undefined;
  if (count === 0) throw refuse("the client offers no method", Uint8Array.of(VERSION, NO_METHOD));
  return bytes.length >= 2 + count ? 2 + count : undefined;
}

function findRequest(bytes: Buffer): number | undefined {
  const [version, command = CONNECT, reserved = 0, type] = bytes;
  if (version !== VERSION || reserved !== 0) throw fail();
  if (command !== CONNECT) throw refuse("only CONNECT is carried out", reply(REPLY.command));
  if (type === undefined) return undefined;
  const addressBytes = addressLength(type, bytes);
  if (addressBytes === undefined) return undefined;
  const sizeBytes = 4 + addressBytes + 2;
  return bytes.length >= sizeBytes ? sizeBytes : undefined;
}

/** With its length byte; undefined while that is not there. */
function addressLength(type: number, bytes: Buffer): number | undefined {
  if (type === TYPE.ipv4) return 4;
  if (type === TYPE.ipv6) return 16;
  if (type !== TYPE.name) throw refuse(`address type ${type} is unknown`, reply(REPLY.type));
  const length = bytes[4];
  return length === undefined ? undefined : 1 + length;
}

function readTarget(request: Buffer): EgressTarget {
  const port = request.readUInt16BE(request.length - 2);
  if (port === 0) throw refuse("port 0", reply(REPLY.notAllowed));
  const isName = request[3] === TYPE.name;
  const bytes = request.subarray(isName ? 5 : 4, -2);
  try {
    return toTarget(isName ? readName(bytes) : formatAddress(bytes), port);
  } catch (error) {
    throw error instanceof KitError ? new ProxyFault(error, reply(REPLY.notAllowed)) : error;
  }
}

function readName(bytes: Buffer): string {
  const name = bytes.toString("latin1");
  if (bytes.some((byte) => byte <= 0x20 || byte >= 0x7f))
    throw new KitError("E_EGRESS_NAME", `${quoteText(name)} is no host name: it is not ASCII`);
  return name;
}

function replyOf(reason: RefusalReason): number {
  if (reason === "refused") return REPLY.refused;
  if (reason === "unreachable" || reason === "notResolved") return REPLY.unreachable;
  return reason === "busy" ? REPLY.failure : REPLY.notAllowed;
}

function reply(code: number): Uint8Array {
  return Uint8Array.of(VERSION, code, 0, TYPE.ipv4, 0, 0, 0, 0, 0, 0);
}

function fail(): ProxyFault {
  return refuse("the request is malformed", reply(REPLY.failure));
}

function refuse(why: string, answer: Uint8Array): ProxyFault {
  return createFault(`no SOCKS5: ${why}`, answer);
}
