/**
 * What a server says to the wish for an upgrade (RFC 9110, 7.8): 101 grants it; 100 and the like come before the answer;
 * all else, malformed answers as well, is taken for no, and then the client is read on as strictly as before.
 */
const STATUS_LINE = /^HTTP\/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n/;
/** Of the beginning that a status line has. */
const STATUS_START = "HTTP/1.";
const MAX_ANSWER_BYTES = 16 * 1024;

export class UpgradeAnswer {
  #text = "";
  #sizeBytes = 0;

  /** Undefined: not answered yet. */
  read(chunk: Buffer): "granted" | "refused" | undefined {
    this.#sizeBytes += chunk.length;
    if (this.#sizeBytes > MAX_ANSWER_BYTES) chunk = chunk.subarray(0, MAX_ANSWER_BYTES);
    this.#text += chunk.toString("latin1");
    for (;;) {
      const [line, status] = STATUS_LINE.exec(this.#text) ?? [];
      if (line === undefined || status === undefined) return this.#judgePart();
      if (status === "101") return "granted";
      if (!status.startsWith("1")) return "refused";
      const end = /\r?\n\r?\n/.exec(this.#text);
      if (end === null) return this.#sizeBytes > MAX_ANSWER_BYTES ? "refused" : undefined;
      this.#text = this.#text.slice(end.index + end[0].length);
    }
  }

  #judgePart(): "refused" | undefined {
    const start = this.#text.slice(0, STATUS_START.length);
    const isPart = !this.#text.includes("\n") && STATUS_START.startsWith(start);
    return isPart && this.#sizeBytes <= MAX_ANSWER_BYTES ? undefined : "refused";
  }
}
