/** HTTP CONNECT (RFC 9110, 9.3.6): a head with an authority, an answer, then raw bytes. */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { type EgressTarget, toTarget } from "../policy/egress-policy.ts";
import { readHandshake } from "./handshake-reader.ts";
import type { ProxyRequest, RefusalReason } from "./proxy-request.ts";

const MAX_HEAD_BYTES = 8 * 1024;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,2048}) HTTP\/1\.[01]$/;
const AUTHORITY = /^([^@/?#[\]:]+|\[([0-9a-fA-F:.]+)\]):([0-9]{1,5})$/;
const FIELD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}:[\t\x20-\x7e\x80-\xff]*$/;

const STATUS = {
  400: "Bad Request",
  403: "Forbidden",
  405: "Method Not Allowed",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
} as const;
type Status = keyof typeof STATUS;

/** @throws E_EGRESS_PROXY, E_EGRESS_NAME after the client was told; the signal's reason */
export async function readConnectRequest(stream: Duplex, signal: AbortSignal): Promise<ProxyRequest> {
  const head = await readHandshake(stream, { maxBytes: MAX_HEAD_BYTES, find: findHead, signal });
  const target = readTarget(head.toString("latin1", 0, head.length - 4), stream);
  return {
    target,
    accept: () => void stream.write("HTTP/1.1 200 Connection established\r\n\r\n"),
    refuse: (reason) => void answer(stream, statusOf(reason), `denied: ${reason}`, reason),
  };
}

function findHead(bytes: Buffer): number | undefined {
  const end = bytes.indexOf("\r\n\r\n");
  if (end !== -1) return end + 4;
  // Something else altogether is not waited for.
  if (bytes.length > 0 && !/^[!#$%&'*+.^_`|~0-9A-Za-z-]/.test(bytes.toString("latin1", 0, 1)))
    throw new KitError("E_EGRESS_PROXY", "no HTTP request");
  return undefined;
}

function readTarget(head: string, stream: Duplex): EgressTarget {
  const authority = readAuthority(head, stream);
  const [, host = "", ipv6, port = ""] = AUTHORITY.exec(authority) ?? [];
  const number = Number(port);
  if (host === "" || number < 1 || number > 65_535) throw tell(stream, 400, "no HOST:PORT");
  try {
    return toTarget(ipv6 ?? host, number);
  } catch (error) {
    tell(stream, 400, "no host name");
    throw error;
  }
}

function readAuthority(head: string, stream: Duplex): string {
  const [first = "", ...fields] = head.split("\r\n");
  const [, method, authority = ""] = REQUEST_LINE.exec(first) ?? [];
  if (method === undefined || !fields.every((field) => FIELD.test(field)))
    throw tell(stream, 400, "not strict HTTP/1");
  if (method === "CONNECT") return authority;
  throw tell(stream, 405, "only CONNECT is carried out; plain http:// works without a proxy here");
}

function statusOf(reason: RefusalReason): Status {
  if (reason === "refused" || reason === "notResolved") return 502;
  if (reason === "unreachable") return 504;
  return reason === "busy" || reason === "limit" ? 503 : 403;
}

function tell(stream: Duplex, status: Status, why: string): KitError {
  answer(stream, status, why);
  return new KitError("E_EGRESS_PROXY", why);
}

function answer(stream: Duplex, status: Status, text: string, reason?: RefusalReason): void {
  const body = `${text}\n`;
  const lines = [
    `HTTP/1.1 ${status} ${STATUS[status]}`,
    "content-type: text/plain",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    ...(reason === undefined ? [] : [`x-enclave-denied: ${reason}`]),
  ];
  stream.end(`${lines.join("\r\n")}\r\n\r\n${body}`, () => stream.destroy());
}
