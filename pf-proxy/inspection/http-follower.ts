/**
 * Follows the requests of one HTTP/1 connection, one after the other: each head must be for the host that was dialled,
 * and where a body ends decides where the next head begins. Bodies pass as they come; a head, and a line of a chunked
 * body, passes when it is whole.
 *
 *   head -> body | chunkSize | upgrade | head      chunkSize -> chunk -> chunkEnd -> chunkSize | trailers -> head
 *   upgrade: nothing passes until the server has answered -> opaque | head
 */
import type { EgressTarget } from "../policy/egress-policy.ts";
import { MAX_HEAD_BYTES, readRequestHead } from "./http-head.ts";
import { refuseStream } from "./refusal.ts";
import { UpgradeAnswer } from "./upgrade-answer.ts";
import { WithheldBytes } from "./withheld-bytes.ts";

/** `1a;name=value`: what an extension says is the server's business, so its form is narrow. */
const CHUNK_LINE = /^([0-9a-fA-F]{1,8})(?:;[\x20-\x7e]{0,256})?$/;
const TRAILER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[\t\x20-\x7e\x80-\xff]*$/;
/** What some servers would take from a trailer as if it were in the head. */
const NOT_IN_TRAILERS: ReadonlySet<string> = new Set([
  "host",
  "content-length",
  "transfer-encoding",
  "upgrade",
  "connection",
  "expect",
]);
const MAX_LINE_BYTES = { chunkSize: 512, chunkEnd: 2, trailers: 8 * 1024 } as const;
const MAX_TRAILERS = 64;
/** Of a client that goes on before its upgrade is answered. */
const MAX_WITHHELD_BYTES = 16 * 1024;
const LF = 10;
const CR = 13;
const NOTHING: readonly Buffer[] = [];

type LineState = keyof typeof MAX_LINE_BYTES;
type State = "head" | "body" | "chunk" | LineState | "upgrade" | "opaque";

export class HttpFollower {
  readonly #target: EgressTarget;
  readonly #kept = new WithheldBytes();
  #state: State = "head";
  /** Of the bytes kept, those that may pass. */
  #passed = 0;
  /** Of the bytes kept, those in which the end of the head or line was looked for. */
  #scanned = 0;
  /** Left of a body or chunk. */
  #leftBytes = 0;
  #requests = 0;
  #trailers = 0;
  #answer = new UpgradeAnswer();

  constructor(target: EgressTarget) {
    this.#target = target;
  }

  /** @throws E_EGRESS_INSPECTION */
  push(chunk: Buffer): readonly Buffer[] {
    if (this.#state === "opaque") return [chunk];
    this.#kept.append(chunk);
    return this.#advance();
  }

  /** The client ended its side. @throws E_EGRESS_INSPECTION in the middle of a head, or with an upgrade unanswered */
  end(): readonly Buffer[] {
    if (this.#kept.lengthBytes > 0) throw refuseStream("it ended in the middle of a request");
    return NOTHING;
  }

  /** @throws E_EGRESS_INSPECTION where the client's next request was waiting and is none */
  fromServer(chunk: Buffer): readonly Buffer[] {
    if (this.#state !== "upgrade") return NOTHING;
    const answer = this.#answer.read(chunk);
    if (answer === undefined) return NOTHING;
    this.#state = answer === "granted" ? "opaque" : "head";
    return answer === "granted" ? this.#kept.takeAll() : this.#advance();
  }

  /** All that passes is in one piece: it is what it was before. */
  #advance(): readonly Buffer[] {
    const bytes = this.#kept.bytes;
    while (this.#passed < bytes.length && this.#step(bytes)) continue;
    const isTooMuch = this.#state === "upgrade" && bytes.length - this.#passed > MAX_WITHHELD_BYTES;
    if (isTooMuch) throw refuseStream("it says too much before its upgrade is answered");
    const passed = this.#kept.take(this.#passed);
    this.#scanned = Math.max(0, this.#scanned - this.#passed);
    this.#passed = 0;
    return passed;
  }

  /** @returns false where more bytes are needed */
  #step(bytes: Buffer): boolean {
    switch (this.#state) {
      case "opaque":
      case "upgrade":
        return false;
      case "head":
        return this.#passHead(bytes);
      case "body":
      case "chunk":
        return this.#passBody(bytes);
      default:
        return this.#passLine(bytes, this.#state);
    }
  }

  #passHead(bytes: Buffer): boolean {
    const start = this.#passed;
    // Some servers skip an empty line before a request and others do not.
    if (bytes[start] === CR || bytes[start] === LF)
      throw refuseStream("an empty line stands before a request");
    let end = this.#findLine(bytes, MAX_HEAD_BYTES);
    // Every line ends with CR LF, so an empty one follows an LF.
    while (end !== undefined && bytes[end - 3] !== LF) end = this.#findLine(bytes, MAX_HEAD_BYTES);
    if (end === undefined) return false;
    const head = readRequestHead(bytes.toString("latin1", start, end - 4), this.#target);
    this.#requests += 1;
    if (head.wantsUpgrade && (this.#requests > 1 || head.body.kind !== "none"))
      throw refuseStream("an upgrade is for the first request of a connection, and without a body");
    this.#leftBytes = head.body.kind === "bytes" ? head.body.sizeBytes : 0;
    this.#state = head.wantsUpgrade ? "upgrade" : BODY_STATES[head.body.kind];
    this.#passTo(end);
    return true;
  }

  #passBody(bytes: Buffer): boolean {
    const sizeBytes = Math.min(this.#leftBytes, bytes.length - this.#passed);
    this.#leftBytes -= sizeBytes;
    if (this.#leftBytes === 0) this.#state = this.#state === "chunk" ? "chunkEnd" : "head";
    this.#passTo(this.#passed + sizeBytes);
    return true;
  }

  #passLine(bytes: Buffer, state: LineState): boolean {
    const end = this.#findLine(bytes, MAX_LINE_BYTES[state]);
    if (end === undefined) return false;
    this.#judgeLine(bytes.toString("latin1", this.#passed, end - 2), state);
    this.#passTo(end);
    return true;
  }

  #judgeLine(line: string, state: LineState): void {
    if (state === "chunkEnd") {
      if (line !== "") throw refuseStream("a chunk is longer than it says");
      this.#state = "chunkSize";
    } else if (state === "chunkSize") {
      this.#leftBytes = parseChunkSize(line);
      this.#trailers = 0;
      this.#state = this.#leftBytes === 0 ? "trailers" : "chunk";
    } else if (line === "") {
      this.#state = "head";
    } else {
      this.#trailers += 1;
      if (!isTrailer(line) || this.#trailers > MAX_TRAILERS)
        throw refuseStream("its trailers are not strict HTTP/1");
    }
  }

  /**
   * Position after the next line end. Undefined: more bytes are needed.
   * @param maxBytes from the beginning of the head or line to its end
   */
  #findLine(bytes: Buffer, maxBytes: number): number | undefined {
    const limit = Math.min(bytes.length, this.#passed + maxBytes);
    const at = bytes.subarray(0, limit).indexOf(LF, this.#scanned);
    if (at === -1 && limit === this.#passed + maxBytes)
      throw refuseStream(`a head or line of it is not over within ${maxBytes} bytes`);
    this.#scanned = at === -1 ? limit : at + 1;
    if (at === -1) return undefined;
    if (at === this.#passed || bytes[at - 1] !== CR)
      throw refuseStream("a line of it does not end with CR LF");
    return at + 1;
  }

  #passTo(end: number): void {
    this.#passed = end;
    this.#scanned = end;
  }
}

const BODY_STATES = { none: "head", bytes: "body", chunked: "chunkSize" } as const;

function parseChunkSize(line: string): number {
  const size = CHUNK_LINE.exec(line)?.[1];
  if (size === undefined) throw refuseStream("a chunk has no strict size");
  return Number.parseInt(size, 16);
}

function isTrailer(line: string): boolean {
  const name = TRAILER.exec(line)?.[1]?.toLowerCase();
  return name !== undefined && !NOT_IN_TRAILERS.has(name);
}
