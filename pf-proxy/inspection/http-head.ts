/**
 * The head of an HTTP/1 request (RFC 9112), read so strictly that no two servers can read it differently: single spaces,
 * CRLF, no folded lines, one Host, one way to tell where the body ends.
 */
import { KitError } from "../../core/errors.ts";
import { type EgressTarget, formatTarget } from "../policy/egress-policy.ts";
import { canonicalHostName } from "../policy/host-name.ts";

export const MAX_HEAD_BYTES = 32 * 1024;
const MAX_FIELDS = 200;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,16384}) HTTP\/1\.([01])$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/;
const AUTHORITY = /^([^@/?#[\]:]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?$/;

export type BodyLength =
  { readonly kind: "none" | "chunked" } | { readonly kind: "bytes"; readonly sizeBytes: number };

export interface RequestHead {
  readonly body: BodyLength;
  readonly wantsUpgrade: boolean;
}

/** @param text the head in Latin-1, without the empty line. @throws E_EGRESS_INSPECTION */
export function readRequestHead(text: string, target: EgressTarget): RequestHead {
  const [first = "", ...lines] = text.split("\r\n");
  const [, method = "", path = "", minor] = REQUEST_LINE.exec(first) ?? [];
  if (method === "") throw refuse("its request line is not strict HTTP/1");
  if (method.toUpperCase() === "CONNECT") throw refuse("CONNECT to a server that is no proxy");
  const fields = readFields(lines);
  const hosts = fields.get("host") ?? [];
  if (hosts.length > 1 || (hosts.length === 0 && minor === "1")) throw refuse("it has not exactly one Host");
  for (const host of hosts) assertAuthority(host, target, "Host");
  assertPath(path, target);
  return { body: readBodyLength(fields, minor === "0"), wantsUpgrade: fields.has("upgrade") };
}

function readFields(lines: readonly string[]): ReadonlyMap<string, readonly string[]> {
  if (lines.length > MAX_FIELDS) throw refuse(`it has more than ${MAX_FIELDS} header fields`);
  const fields = new Map<string, string[]>();
  for (const line of lines) {
    const [, name = "", value = ""] = FIELD.exec(line) ?? [];
    if (name === "") throw refuse("a header field is not strict HTTP/1");
    const key = name.toLowerCase();
    fields.set(key, [...(fields.get(key) ?? []), value]);
  }
  return fields;
}

/** Origin form, `*`, or an absolute URL of the host itself. */
function assertPath(path: string, target: EgressTarget): void {
  if (path.startsWith("/") || path === "*") return;
  const authority = /^https?:\/\/([^/?#]*)(?:[/?#]|$)/i.exec(path)?.[1];
  if (authority === undefined) throw refuse("its request target is neither a path nor a URL");
  assertAuthority(authority, target, "request target");
}

function assertAuthority(text: string, target: EgressTarget, what: string): void {
  const [, host = "", port] = AUTHORITY.exec(text) ?? [];
  if (host === "" || (port !== undefined && Number(port) !== target.port)) throw other(text, target, what);
  // Who dials an address says in Host what he likes: the address is what the rule is about.
  if (target.kind === "address") return;
  let name: string;
  try {
    name = canonicalHostName(host);
  } catch {
    throw other(text, target, what);
  }
  if (name !== target.host) throw other(text, target, what);
}

function readBodyLength(fields: ReadonlyMap<string, readonly string[]>, isOld: boolean): BodyLength {
  const lengths = fields.get("content-length");
  const codings = fields.get("transfer-encoding");
  if (lengths !== undefined && codings !== undefined) throw refuse("it tells the length of its body twice");
  if (lengths !== undefined) return readContentLength(lengths);
  if (codings === undefined) return { kind: "none" };
  if (isOld || codings.length !== 1 || codings[0]?.toLowerCase() !== "chunked")
    throw refuse("its transfer coding is not chunked");
  return { kind: "chunked" };
}

function readContentLength([length = "", ...more]: readonly string[]): BodyLength {
  if (more.length > 0 || !/^[0-9]{1,15}$/.test(length)) throw refuse("its Content-Length is not one number");
  return Number(length) === 0 ? { kind: "none" } : { kind: "bytes", sizeBytes: Number(length) };
}

function other(text: string, target: EgressTarget, what: string): KitError {
  const shown = JSON.stringify(text.slice(0, 100));
  return refuse(`${what} ${shown} is not ${formatTarget(target)}`);
}

function refuse(why: string): KitError {
  return new KitError("E_EGRESS_INSPECTION", why);
}
