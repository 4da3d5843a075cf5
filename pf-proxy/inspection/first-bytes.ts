/** What a connection is, from its first bytes; loosely for HTTP, since servers are not strict about it either. */
export type Protocol = "tls" | "http" | "http2" | "other";

const MAX_LINE_BYTES = 8 * 1024;
const HTTP2 = Buffer.from("PRI * HTTP/2.0\r\n");
/** `PRI * ` is no beginning of anything else. */
const HTTP2_SURE_BYTES = 6;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const REQUEST_LINE = /^[\r\n]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t\v\f]+[^\r\n]*[ \t\v\f]+HTTP\/[0-9]/i;
const HANDSHAKE = 22;
const TLS_MAJOR = 3;

/** Undefined: more bytes are needed. */
export function classify(bytes: Buffer): Protocol | undefined {
  if (bytes.length === 0) return undefined;
  // The second byte decides whether it is; until then nothing passes that could be the beginning of a ClientHello.
  if (bytes[0] === HANDSHAKE) return bytes[1] === undefined || bytes[1] === TLS_MAJOR ? "tls" : "other";
  const start = bytes.subarray(0, HTTP2.length);
  if (Buffer.compare(start, HTTP2.subarray(0, start.length)) === 0)
    return start.length >= HTTP2_SURE_BYTES ? "http2" : undefined;
  return classifyLine(bytes);
}

function classifyLine(bytes: Buffer): Protocol | undefined {
  const text = bytes.toString("latin1", 0, MAX_LINE_BYTES);
  const line = text.replace(/^[\r\n]+/, "");
  const end = line.search(/[\r\n]/);
  if (end === -1 && !couldBeRequest(line)) return "other";
  if (end === -1 && bytes.length < MAX_LINE_BYTES) return undefined;
  return REQUEST_LINE.test(text) ? "http" : "other";
}

/** As long as it lasts: a token, and then anything after a blank. */
function couldBeRequest(line: string): boolean {
  if (line === "") return true;
  const [method = ""] = line.split(/[ \t\v\f]/, 1);
  return method.length <= 32 && TOKEN.test(method);
}
