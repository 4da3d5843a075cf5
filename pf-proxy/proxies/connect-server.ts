/**
 * HTTP CONNECT (RFC 9110, 9.3.6): a head with `CONNECT HOST:PORT`, an answer, then raw bytes. Other methods would be
 * those of a forwarding proxy, which nobody needs here: plain HTTP finds its way without one.
 */
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { type EgressTarget, toTarget } from "../policy/egress-policy.ts";
import { readHandshake } from "./handshake-reader.ts";
import {
  createFault,
  createProxyRequest,
  ProxyFault,
  type ProxyRequest,
  type RefusalReason,
  tellFaults,
} from "./proxy-request.ts";

const MAX_HEAD_BYTES = 8 * 1024;
const MAX_FIELDS = 100;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,4096}) HTTP\/1\.[01]$/;
/** An IPv6 address stands in brackets, and nothing else does. */
const AUTHORITY = /^(?:([^@/?#[\]:]{1,300})|\[([0-9a-fA-F:.]{2,45})\]):([1-9][0-9]{0,4})$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):([\t\x20-\x7e\x80-\xff]*)$/;
const HEAD_END = "\r\n\r\n";
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]/;
const MAX_PORT = 65_535;
const ACCEPTED = Buffer.from("HTTP/1.1 200 Connection established\r\n\r\n");

const STATUS = {
  400: "Bad Request",
  403: "Forbidden",
  405: "Method Not Allowed",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
} as const;
type Status = keyof typeof STATUS;

/** @throws E_EGRESS_PROXY, E_EGRESS_NAME after the client was told and let go; the signal's reason as a KitError */
export async function readConnectRequest(stream: Duplex, signal: AbortSignal): Promise<ProxyRequest> {
  return await tellFaults(stream, async () => {
    const onTooLong = (): ProxyFault => malformed(`its head is not over within ${MAX_HEAD_BYTES} bytes`);
    const head = await readHandshake(stream, { maxBytes: MAX_HEAD_BYTES, find: findHead, onTooLong, signal });
    const target = readTarget(head.toString("latin1", 0, head.length - HEAD_END.length));
    const refused = (reason: RefusalReason): Buffer =>
      answer(statusOf(reason), `denied: ${reason}`, [denial(reason)]);
    return createProxyRequest(stream, target, { accepted: ACCEPTED, refused });
  });
}

/** What cannot become a request is not waited for. */
function findHead(bytes: Buffer): number | undefined {
  if (!TOKEN.test(bytes.toString("latin1", 0, 1))) throw malformed("it is no HTTP request");
  const end = bytes.indexOf(HEAD_END);
  const head = end === -1 ? bytes : bytes.subarray(0, end + HEAD_END.length);
  for (let at = head.indexOf("\n"); at !== -1; at = head.indexOf("\n", at + 1))
    if (head[at - 1] !== 0x0d) throw malformed("a line of it does not end with CR LF");
  return end === -1 ? undefined : end + HEAD_END.length;
}

function readTarget(head: string): EgressTarget {
  const [first = "", ...lines] = head.split("\r\n", MAX_FIELDS + 2);
  const [, method, authority = ""] = REQUEST_LINE.exec(first) ?? [];
  if (method === undefined) throw malformed("its request line is not strict HTTP/1");
  if (method !== "CONNECT") throw wrongMethod();
  const target = parseAuthority(authority);
  assertFields(lines, target);
  return target;
}

function parseAuthority(text: string): EgressTarget {
  const [, name, ipv6 = "", port] = AUTHORITY.exec(text) ?? [];
  const isPlace = name !== undefined || ipv6.includes(":");
  if (!isPlace || Number(port) > MAX_PORT) throw malformed("it does not say HOST:PORT");
  try {
    return toTarget(name ?? ipv6, Number(port));
  } catch (error) {
    if (!(error instanceof KitError)) throw error;
    throw new ProxyFault(error, answer(400, "no host name", [denial("not_a_name")]));
  }
}

/** Host is not needed; where it is there, it is the same as what is connected to. */
function assertFields(lines: readonly string[], target: EgressTarget): void {
  const fields = lines.map((line) => FIELD.exec(line));
  if (lines.length > MAX_FIELDS || fields.includes(null)) throw malformed("its header is not strict HTTP/1");
  const hosts = fields.flatMap((field) => (field?.[1]?.toLowerCase() === "host" ? [field[2] ?? ""] : []));
  if (hosts.length > 1 || hosts.some((host) => !isSameHost(host.trim(), target)))
    throw malformed("its Host is not what it wants to connect to");
}

function isSameHost(text: string, target: EgressTarget): boolean {
  const withPort = /:[0-9]{1,5}$/.test(text) && !text.endsWith("]") ? text : `${text}:${target.port}`;
  try {
    const { host, port } = parseAuthority(withPort);
    return host === target.host && port === target.port;
  } catch (error) {
    if (error instanceof ProxyFault) return false;
    throw error;
  }
}

function statusOf(reason: RefusalReason): Status {
  if (reason === "refused" || reason === "notResolved") return 502;
  if (reason === "unreachable") return 504;
  return reason === "busy" || reason === "limit" ? 503 : 403;
}

function denial(reason: RefusalReason): string {
  return `x-enclave-denied: ${reason}`;
}

function wrongMethod(): ProxyFault {
  const why = "only CONNECT is carried out; plain http:// works without a proxy here";
  return createFault(`no CONNECT: ${why}`, answer(405, why, ["allow: CONNECT"]));
}

function malformed(why: string): ProxyFault {
  return createFault(`no CONNECT: ${why}`, answer(400, why));
}

/** @param text one line of ASCII */
function answer(status: Status, text: string, more: readonly string[] = []): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS[status]}`,
    "content-type: text/plain",
    `content-length: ${text.length + 1}`,
    "connection: close",
    ...more,
  ];
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n${text}\n`);
}
