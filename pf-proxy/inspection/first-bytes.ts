/**
 * What a connection is, from its first bytes. HTTP is recognised as loosely as the loosest server would, since what is
 * not recognised passes unread; what is recognised is then read strictly (http-head.ts).
 *
 *   tls    0x16 0x03
 *   http   blank lines and blanks, a token, and in the same line ` HTTP/` with a digit
 *          or `GET http://`, which names a host in HTTP/0.9 as well
 *   http2  the preface of HTTP/2 without TLS (RFC 9113, 3.4)
 *   long   HTTP, but only after so many bytes that it cannot be read strictly any more
 *   line   a first line that may still become HTTP
 *
 * A line may pass while it is read, since no server acts on a part of a head; so a client that says a word without a
 * line end, and waits for an answer, is not kept waiting. What is decided on a part of a line holds for the whole of it.
 */
export type Protocol = "tls" | "http" | "http2" | "long" | "line" | "other";

/** Within which a request line must be recognisable. */
export const MAX_FIRST_LINE_BYTES = 8 * 1024;
/** Beyond any server's limit of a head: no HTTP from there on. */
const MAX_SEARCHED_BYTES = 1024 * 1024;
const HANDSHAKE = 22;
const TLS_MAJOR = 3;
/* Blanks are those of the loosest servers: Python's split() takes the controls and the Latin-1 ones. */
// oxlint-disable no-control-regex
const SKIPPED = /^[\t\n\v\f\r\x1c-\x20\x85\xa0]+/;
const WORD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:$|([\t\n\v\f\r\x1c-\x20\x85\xa0]))/;
const VERSION = /[\t\v\f\r\x1c-\x20\x85\xa0](?:HTTP|ICE)\/[0-9]/i;
const ABSOLUTE = /^[^\t\v\f\r\x1c-\x20\x85\xa0]+[\t\v\f\r\x1c-\x20\x85\xa0]+https?:\/\//i;
// oxlint-enable no-control-regex
/** One less than the longest match of VERSION. */
const OVERLAP = 6;

export class FirstBytes {
  /** What of the first line may still matter. */
  #text = "";
  /** Of the connection, before #text. */
  #before = 0;
  #isWordOver = false;

  /** @param chunk of the connection, after those that were read. Undefined: not a whole byte may pass yet. */
  read(chunk: Buffer): Protocol | undefined {
    const isFirst = this.#before === 0 && this.#text.length <= 1;
    this.#text += chunk.toString("latin1");
    if (isFirst && this.#text.charCodeAt(0) === HANDSHAKE) {
      if (this.#text.length < 2) return undefined;
      return this.#text.charCodeAt(1) === TLS_MAJOR ? "tls" : "other";
    }
    return this.#readLine();
  }

  #readLine(): Protocol {
    if (!this.#isWordOver) {
      this.#forget(SKIPPED.exec(this.#text)?.[0].length ?? 0);
      const [word, blank] = WORD.exec(this.#text) ?? [];
      if (word === undefined && this.#text !== "") return "other";
      if (blank === undefined) return this.#wait();
      this.#isWordOver = true;
    }
    const end = this.#text.indexOf("\n");
    const found = this.#judge(end === -1 ? this.#text : this.#text.slice(0, end));
    return found ?? (end === -1 ? this.#wait() : "other");
  }

  #wait(): Protocol {
    const sizeBytes = this.#before + this.#text.length;
    if (sizeBytes > MAX_SEARCHED_BYTES) return "other";
    if (sizeBytes > MAX_FIRST_LINE_BYTES) this.#forget(Math.max(0, this.#text.length - OVERLAP));
    return "line";
  }

  /** The same for each way in which the line may have come. */
  #judge(line: string): "http" | "http2" | "long" | undefined {
    const end = Math.min(this.#endOf(ABSOLUTE, line, MAX_FIRST_LINE_BYTES), this.#endOf(VERSION, line));
    if (end > MAX_SEARCHED_BYTES) return undefined;
    if (end > MAX_FIRST_LINE_BYTES) return "long";
    return line.startsWith("PRI * HTTP/2") ? "http2" : "http";
  }

  /** Where in the connection a match ends; beyond `limit` it is none. */
  #endOf(pattern: RegExp, line: string, limit = Infinity): number {
    const match = pattern.exec(line);
    const end = match === null ? Infinity : this.#before + match.index + match[0].length;
    return end > limit ? Infinity : end;
  }

  #forget(sizeBytes: number): void {
    this.#before += sizeBytes;
    this.#text = this.#text.slice(sizeBytes);
  }
}
