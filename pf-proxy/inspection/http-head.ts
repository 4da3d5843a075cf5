/**
 * The head of an HTTP/1 request (RFC 9112), read so strictly that no two servers can read it differently: single spaces,
 * CRLF, no folded lines, one Host, one way to tell where the body ends. Patterns here have nothing to go back for, so
 * the time is linear in the size of the head.
 */
import type { KitError } from "../../core/errors.ts";
import { type EgressTarget, formatTarget } from "../policy/egress-policy.ts";
import { quoteText } from "../policy/quoted-text.ts";
import { readBodyLength, type BodyLength } from "./http-body-length.ts";
import { namesTarget } from "./named-host.ts";
import { refuseStream } from "./refusal.ts";

/** With the empty line. */
export const MAX_HEAD_BYTES = 32 * 1024;
const MAX_FIELDS = 200;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,16384}) HTTP\/1\.([01])$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):([\t\x20-\x7e\x80-\xff]*)$/;
/** Userinfo, brackets that are none and blanks have no place here. */
const AUTHORITY = /^([\w.~%!$&'()*+,;=-]{1,300}|\[[0-9a-fA-F:.]{2,45}\])(?::([1-9][0-9]{0,4}))?$/;
const HTTP2 = /^(?:h2c?|http\/2(?:\.0)?)$/i;

export interface RequestHead {
  readonly body: BodyLength;
  /** What follows the body is no longer HTTP/1 if the server agrees. */
  readonly wantsUpgrade: boolean;
}

export type HeaderFields = ReadonlyMap<string, readonly string[]>;

/** @param text the head in Latin-1, without the empty line. @throws E_EGRESS_INSPECTION */
export function readRequestHead(text: string, target: EgressTarget): RequestHead {
  const [first = "", ...lines] = text.split("\r\n", MAX_FIELDS + 2);
  const [, method = "", path = "", minor] = REQUEST_LINE.exec(first) ?? [];
  if (method === "") throw refuseStream("its request line is not strict HTTP/1");
  if (method.toUpperCase() === "CONNECT") throw refuseStream("CONNECT to a server that is no proxy");
  const fields = readFields(lines);
  const hosts = fields.get("host") ?? [];
  if (hosts.length > 1 || (hosts.length === 0 && minor === "1"))
    throw refuseStream("it has not exactly one Host");
  for (const host of hosts) assertAuthority(host, target, "Host");
  assertPath(method, path, target);
  const body = readBodyLength(fields, minor === "0");
  assertExpectation(fields);
  return { body, wantsUpgrade: wantsUpgrade(fields) };
}

function readFields(lines: readonly string[]): HeaderFields {
  if (lines.length > MAX_FIELDS) throw refuseStream(`it has more than ${MAX_FIELDS} header fields`);
  const fields = new Map<string, string[]>();
  for (const line of lines) {
    const [, name = "", value = ""] = FIELD.exec(line) ?? [];
    if (name === "") throw refuseStream("a header field is not strict HTTP/1");
    const key = name.toLowerCase();
    const known = fields.get(key);
    if (known === undefined) fields.set(key, [trimBlanks(value)]);
    else known.push(trimBlanks(value));
  }
  return fields;
}

/** String.trim() would take U+00A0, which is no blank in HTTP. */
function trimBlanks(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && (text[start] === " " || text[start] === "\t")) start += 1;
  while (end > start && (text[end - 1] === " " || text[end - 1] === "\t")) end -= 1;
  return text.slice(start, end);
}

/** Origin form, `*`, or an absolute URL of the host itself. */
function assertPath(method: string, path: string, target: EgressTarget): void {
  if (path.startsWith("/") || (path === "*" && method === "OPTIONS")) return;
  const authority = /^https?:\/\/([^/?#]*)/i.exec(path)?.[1];
  if (authority === undefined) throw refuseStream("its request target is neither a path nor a URL");
  assertAuthority(authority, target, "request target");
}

/** Who dials an address says in Host what it likes: the rule is about the address. */
function assertAuthority(text: string, target: EgressTarget, what: string): void {
  if (target.kind === "address") return;
  const [, host = "", port] = AUTHORITY.exec(text) ?? [];
  if (port !== undefined && Number(port) !== target.port) throw refuseOther(text, target, what);
  if (!namesTarget(host, target)) throw refuseOther(text, target, what);
}

/** Servers disagree about other expectations, and then about who reads the body. */
function assertExpectation(fields: HeaderFields): void {
  const expected = fields.get("expect") ?? [];
  if (expected.length > 1 || expected.some((value) => value.toLowerCase() !== "100-continue"))
    throw refuseStream("it expects something else than 100-continue");
}

/**
 * A wish for HTTP/2, which Java's client sends with every request, is passed over: were it granted, the client would have
 * to send the preface of HTTP/2, and that is no strict HTTP/1.
 */
function wantsUpgrade(fields: HeaderFields): boolean {
  const wished = (fields.get("upgrade") ?? []).flatMap((value) => value.split(",").map(trimBlanks));
  const isHttp2 = wished.map((protocol) => HTTP2.test(protocol));
  if (isHttp2.includes(true) && isHttp2.includes(false))
    throw refuseStream("it asks for an upgrade to HTTP/2 or something else");
  return isHttp2.includes(false);
}

function refuseOther(text: string, target: EgressTarget, what: string): KitError {
  return refuseStream(`its ${what} is ${quoteText(text)}, not ${formatTarget(target)}`);
}
