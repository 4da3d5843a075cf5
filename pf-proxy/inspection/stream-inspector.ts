/**
 * Whether what a client says is for the host that it dialled. Rules are by name, and a name is only what the client told
 * the resolver; where the protocol repeats it, both must agree, or one allowed name would open every site of the same
 * server.
 */
import type { TlsMode } from "../../wire/egress-policy.ts";
import { type EgressTarget, formatTarget } from "../policy/egress-policy.ts";
import { quoteText } from "../policy/quoted-text.ts";
import type { ClientHello } from "./client-hello.ts";
import { FirstBytes, MAX_FIRST_LINE_BYTES, type Protocol } from "./first-bytes.ts";
import { HelloReader } from "./hello-reader.ts";
import { HttpFollower } from "./http-follower.ts";
import { namesTarget } from "./named-host.ts";
import { refuseStream } from "./refusal.ts";
import { WithheldBytes } from "./withheld-bytes.ts";

/** What it withholds is at most 32 KiB (a head of HTTP/1) and the chunk that came last. */
export interface StreamInspector {
  /** Bytes of the client that may pass now, in order; what is withheld comes later. @throws E_EGRESS_INSPECTION */
  push(chunk: Buffer): readonly Buffer[];
  /** The client ended its side: what is withheld. @throws E_EGRESS_INSPECTION in the middle of what must be whole */
  end(): readonly Buffer[];
  /** Sees what the server sends. Answers withheld bytes of the client that may pass now. @throws E_EGRESS_INSPECTION */
  fromServer(chunk: Buffer): readonly Buffer[];
  /** Nothing may be dialled until this is true. */
  readonly proven: boolean;
}

export interface InspectorOptions {
  readonly tls: TlsMode;
  readonly target: EgressTarget;
}

const NOTHING: readonly Buffer[] = [];

export function createInspector({ tls, target }: InspectorOptions): StreamInspector {
  if (tls === "required") return new HelloInspector(target);
  return tls === "optional" ? new ProtocolInspector(target) : new NoInspector();
}

class NoInspector implements StreamInspector {
  readonly proven = true;

  push(chunk: Buffer): readonly Buffer[] {
    return [chunk];
  }

  end(): readonly Buffer[] {
    return NOTHING;
  }

  fromServer(): readonly Buffer[] {
    return NOTHING;
  }
}

/** The first bytes are a ClientHello for the target, or nothing passes. */
class HelloInspector implements StreamInspector {
  readonly #target: EgressTarget;
  readonly #kept = new WithheldBytes();
  readonly #reader = new HelloReader();
  #proven = false;

  constructor(target: EgressTarget) {
    this.#target = target;
  }

  get proven(): boolean {
    return this.#proven;
  }

  push(chunk: Buffer): readonly Buffer[] {
    if (this.#proven) return [chunk];
    this.#kept.append(chunk);
    const hello = this.#reader.read(this.#kept.bytes);
    if (hello === undefined) return NOTHING;
    if (hello.serverName === null && this.#target.kind === "name")
      throw refuseStream("its ClientHello names nobody");
    assertServerName(hello, this.#target);
    this.#proven = true;
    return this.#kept.takeAll();
  }

  end(): readonly Buffer[] {
    if (!this.#proven) throw refuseStream("it ended before its ClientHello was whole");
    return NOTHING;
  }

  fromServer(): readonly Buffer[] {
    return NOTHING;
  }
}

/** Where a name shows it must be the target's; protocols that show none pass. */
class ProtocolInspector implements StreamInspector {
  readonly proven = true;
  readonly #target: EgressTarget;
  readonly #first = new FirstBytes();
  readonly #kept = new WithheldBytes();
  readonly #reader = new HelloReader();
  #protocol: Protocol | undefined;
  /** Bytes of a first line that have passed already, and are kept for the one who reads it as a request. */
  #aheadBytes = 0;
  #http: HttpFollower | undefined;

  constructor(target: EgressTarget) {
    this.#target = target;
  }

  push(chunk: Buffer): readonly Buffer[] {
    if (this.#http !== undefined) return this.#afterAhead(this.#http.push(chunk));
    if (this.#protocol === "other") return [chunk];
    const isTls = this.#protocol === "tls";
    if (isTls || this.#aheadBytes <= MAX_FIRST_LINE_BYTES) this.#kept.append(chunk);
    if (!isTls) this.#protocol = this.#first.read(chunk);
    return this.#pass(chunk);
  }

  end(): readonly Buffer[] {
    if (this.#http !== undefined) return this.#http.end();
    if (this.#protocol === "tls") throw refuseStream("it ended before its ClientHello was whole");
    return this.#protocol === undefined ? this.#kept.takeAll() : NOTHING;
  }

  fromServer(chunk: Buffer): readonly Buffer[] {
    return this.#http === undefined ? NOTHING : this.#afterAhead(this.#http.fromServer(chunk));
  }

  #pass(chunk: Buffer): readonly Buffer[] {
    switch (this.#protocol) {
      case undefined:
        return NOTHING;
      case "http2":
        throw refuseStream("HTTP/2 without TLS hides whom it is for");
      case "long":
        throw refuseStream(`its request line is not over within ${MAX_FIRST_LINE_BYTES} bytes`);
      case "http":
        return this.#follow();
      case "line":
        this.#aheadBytes += chunk.length;
        return [chunk];
      case "other":
        return this.#passKept(chunk);
      case "tls":
        return this.#passHello();
    }
  }

  /** What was kept beside what has passed is no longer needed. */
  #passKept(chunk: Buffer): readonly Buffer[] {
    const kept = this.#kept.takeAll();
    return this.#aheadBytes > 0 ? [chunk] : kept;
  }

  #follow(): readonly Buffer[] {
    const http = new HttpFollower(this.#target);
    this.#http = http;
    return this.#afterAhead(this.#kept.takeAll().flatMap((bytes) => http.push(bytes)));
  }

  #afterAhead(passed: readonly Buffer[]): readonly Buffer[] {
    if (this.#aheadBytes === 0) return passed;
    return passed.flatMap((bytes) => {
      const skipped = Math.min(this.#aheadBytes, bytes.length);
      this.#aheadBytes -= skipped;
      return skipped === bytes.length ? [] : [bytes.subarray(skipped)];
    });
  }

  #passHello(): readonly Buffer[] {
    const hello = this.#reader.read(this.#kept.bytes);
    if (hello === undefined) return NOTHING;
    assertServerName(hello, this.#target);
    this.#protocol = "other";
    return this.#kept.takeAll();
  }
}

/** Whether a name must be there is not asked. Who dials an address may say any name. */
function assertServerName({ serverName, isEncrypted }: ClientHello, target: EgressTarget): void {
  if (target.kind === "address") return;
  if (isEncrypted) throw refuseStream("its ClientHello hides whom it is for");
  if (serverName === null || namesTarget(serverName, target)) return;
  throw refuseStream(`its ClientHello is for ${quoteText(serverName)}, not for ${formatTarget(target)}`);
}
