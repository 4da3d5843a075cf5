import { MAX_LOG_LINE_BYTES } from "../wire/control.ts";

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** @param partial the line goes on in the next call. */
export type LineSink = (line: string, partial: boolean) => void;

/**
 * Cuts output into lines of at most MAX_LOG_LINE_BYTES; longer ones come in parts. A carriage return before the
 * newline is dropped, invalid UTF-8 is replaced, and a part never ends within a character. Holds at most one part.
 */
export class LineSplitter {
  readonly #sink: LineSink;
  #rest: Buffer = Buffer.alloc(0);

  constructor(sink: LineSink) {
    this.#sink = sink;
  }

  push(chunk: Uint8Array): void {
    const bytes = this.#rest.length === 0 ? viewOf(chunk) : Buffer.concat([this.#rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
      this.#emitLine(bytes.subarray(start, end));
      start = end + 1;
    }
    const consumed = start + this.#emitParts(bytes.subarray(start));
    // A copy, so that a few bytes do not keep a whole read buffer alive.
    this.#rest = Buffer.from(bytes.subarray(consumed));
  }

  /** Gives out a last line that has no newline. */
  end(): void {
    if (this.#rest.length > 0) this.#sink(this.#rest.toString("utf8"), false);
    this.#rest = Buffer.alloc(0);
  }

  #emitLine(line: Buffer): void {
    const body = line.subarray(this.#emitParts(line));
    const end = body.at(-1) === CARRIAGE_RETURN ? body.length - 1 : body.length;
    this.#sink(body.toString("utf8", 0, end), false);
  }

  /** Gives out parts as long as more than a whole one is there; returns the bytes consumed. */
  #emitParts(bytes: Buffer): number {
    let at = 0;
    while (bytes.length - at > MAX_LOG_LINE_BYTES) {
      const end = characterStart(bytes, at + MAX_LOG_LINE_BYTES);
      this.#sink(bytes.toString("utf8", at, end), true);
      at = end;
    }
    return at;
  }
}

function viewOf(chunk: Uint8Array): Buffer {
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

/** `index`, or up to three bytes before it where a character of UTF-8 begins that `index` would cut. */
function characterStart(bytes: Buffer, index: number): number {
  for (let at = index; at > index - 4; at -= 1) {
    if (((bytes[at] ?? 0) & 0xc0) !== 0x80) return at;
  }
  return index;
}
