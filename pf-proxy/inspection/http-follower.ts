/**
 * Follows the requests of one HTTP/1 connection, one after the other: each head must be for the host that was dialled,
 * and where a body ends decides where the next head begins. Bodies pass as they come; a head passes when it is whole.
 */
import { KitError } from "../../core/errors.ts";
import type { EgressTarget } from "../policy/egress-policy.ts";
import { MAX_HEAD_BYTES, readRequestHead } from "./http-head.ts";

/** `1a;name=value`: what an extension says is the server's business, so its form is narrow. */
const CHUNK_LINE = /^([0-9a-fA-F]{1,8})(?:;[\x20-\x7e]{0,256})?$/;
const TRAILER = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}:[\t\x20-\x7e\x80-\xff]*$/;
const MAX_LINE_BYTES = 8 * 1024;
const MAX_TRAILERS = 64;
const MAX_WITHHELD_BYTES = 16 * 1024;
const MAX_STATUS_LINE_BYTES = 1024;

type State = "head" | "body" | "chunkSize" | "chunk" | "chunkEnd" | "trailers" | "upgrade" | "opaque";

export class HttpFollower {
  readonly #target: EgressTarget;
  #state: State = "head";
  /** Bytes that no decision was made about yet. */
  #kept: Buffer = Buffer.alloc(0);
  /** Left of a body or chunk. */
  #leftBytes = 0;
  #requests = 0;
  #trailers = 0;
  /** Beginning of what the server answers to a wish for an upgrade. */
  #answer = "";

  /** Of the first bytes, how many the server has already. */
  #passedBytes: number;

  constructor(target: EgressTarget, passedBytes = 0) {
    this.#target = target;
    this.#passedBytes = passedBytes;
  }

  /** @throws E_EGRESS_INSPECTION */
  push(chunk: Buffer): readonly Buffer[] {
    if (this.#state === "opaque") return [chunk];
    this.#kept = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk]);
    return this.#advance();
  }

  /** The client ended its side. @throws E_EGRESS_INSPECTION in the middle of a head */
  end(): readonly Buffer[] {
    if (this.#state === "upgrade") return [this.#kept];
    if (this.#kept.length > 0) throw refuse("a request was cut off");
    return [];
  }

  fromServer(chunk: Buffer): readonly Buffer[] {
    if (this.#state !== "upgrade") return [];
    this.#answer += chunk.toString("latin1");
    const line = /^HTTP\/1\.[01] ([0-9]{3})/.exec(this.#answer)?.[1];
    if (
      line === undefined &&
      this.#answer.length < MAX_STATUS_LINE_BYTES &&
      "HTTP/1.".startsWith(this.#answer.slice(0, 7))
    )
      return [];
    if (line === "101") {
      this.#state = "opaque";
      return this.#take(this.#kept.length);
    }
    // Not upgraded, or not HTTP: what the client says next is a request, and is read as one.
    this.#state = "head";
    return this.#advance();
  }

  #advance(): readonly Buffer[] {
    const passed: Buffer[] = [];
    for (;;) {
      const step = this.#step();
      if (step === undefined) break;
      passed.push(...step);
    }
    if (this.#state === "upgrade" && this.#kept.length > MAX_WITHHELD_BYTES)
      throw refuse("it says too much before its upgrade is answered");
    return passed;
  }

  /** Undefined: more bytes are needed. */
  #step(): readonly Buffer[] | undefined {
    if (this.#state === "opaque") return this.#kept.length === 0 ? undefined : this.#take(this.#kept.length);
    if (this.#kept.length === 0 || this.#state === "upgrade") return undefined;
    switch (this.#state) {
      case "head":
        return this.#readHead();
      case "body":
      case "chunk":
        return this.#passBody();
      default:
        return this.#readLine();
    }
  }

  #readHead(): readonly Buffer[] | undefined {
    // Servers skip an empty line before a request, so it is skipped here; another one is none of ours.
    if (this.#kept[0] === 0x0d || this.#kept[0] === 0x0a) throw refuse("an empty line before a request");
    const end = this.#kept.indexOf("\r\n\r\n");
    if (end === -1 || end > MAX_HEAD_BYTES) {
      if (this.#kept.length > MAX_HEAD_BYTES) throw refuse(`a head of more than ${MAX_HEAD_BYTES} bytes`);
      return undefined;
    }
    const head = readRequestHead(this.#kept.toString("latin1", 0, end), this.#target);
    this.#requests += 1;
    if (head.wantsUpgrade && (this.#requests > 1 || head.body.kind !== "none"))
      throw refuse("an upgrade is for the first request of a connection, without a body");
    const passed = this.#take(end + 4);
    this.#leftBytes = head.body.kind === "bytes" ? head.body.sizeBytes : 0;
    this.#state = head.wantsUpgrade ? "upgrade" : BODY_STATES[head.body.kind];
    return passed;
  }

  #passBody(): readonly Buffer[] {
    const sizeBytes = Math.min(this.#leftBytes, this.#kept.length);
    const passed = this.#take(sizeBytes);
    this.#leftBytes -= sizeBytes;
    if (this.#leftBytes === 0) this.#state = this.#state === "chunk" ? "chunkEnd" : "head";
    return passed;
  }

  /** Lines of a chunked body: sizes, the empty line after a chunk, trailers. */
  #readLine(): readonly Buffer[] | undefined {
    const end = this.#kept.indexOf("\r\n");
    if (end === -1 || end > MAX_LINE_BYTES) {
      if (this.#kept.length > MAX_LINE_BYTES) throw refuse("a line of a chunked body is too long");
      return undefined;
    }
    this.#judgeLine(this.#kept.toString("latin1", 0, end));
    return this.#take(end + 2);
  }

  #judgeLine(line: string): void {
    if (this.#state === "chunkEnd") {
      if (line !== "") throw refuse("a chunk is longer than it says");
      this.#state = "chunkSize";
    } else if (this.#state === "chunkSize") {
      const size = CHUNK_LINE.exec(line)?.[1];
      if (size === undefined) throw refuse("a chunk without a size");
      this.#leftBytes = Number.parseInt(size, 16);
      this.#trailers = 0;
      this.#state = this.#leftBytes === 0 ? "trailers" : "chunk";
    } else if (line === "") {
      this.#state = "head";
    } else {
      this.#trailers += 1;
      if (!TRAILER.test(line) || this.#trailers > MAX_TRAILERS)
        throw refuse("its trailers are not strict HTTP/1");
    }
  }

  #take(sizeBytes: number): Buffer[] {
    const taken = this.#kept.subarray(Math.min(this.#passedBytes, sizeBytes), sizeBytes);
    this.#passedBytes -= Math.min(this.#passedBytes, sizeBytes);
    this.#kept = this.#kept.subarray(sizeBytes);
    return taken.length === 0 ? [] : [taken];
  }
}

const BODY_STATES = { none: "head", bytes: "body", chunked: "chunkSize" } as const;

function refuse(why: string): KitError {
  return new KitError("E_EGRESS_INSPECTION", why);
}
