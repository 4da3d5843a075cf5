/**
 * Whether what a client says is for the host that it dialled. Rules are by name, and a name is only what the client told
 * the resolver; where the protocol repeats it, both must agree, or one allowed name would open every site of the same
 * server.
 */
import { KitError } from "../../core/errors.ts";
import type { TlsMode } from "../../wire/egress-policy.ts";
import { type EgressTarget, formatTarget } from "../policy/egress-policy.ts";
import { canonicalHostName } from "../policy/host-name.ts";
import { type ClientHello, readClientHello } from "./client-hello.ts";
import { classify, type Protocol } from "./first-bytes.ts";
import { HttpFollower } from "./http-follower.ts";

export interface StreamInspector {
  /** Bytes of the client that may pass now, in order; what is withheld comes later. @throws E_EGRESS_INSPECTION */
  push(chunk: Buffer): readonly Buffer[];
  /** The client ended its side: what is withheld, or a refusal. */
  end(): readonly Buffer[];
  /** Sees what the server sends. Answers withheld bytes of the client that may pass now. */
  fromServer(chunk: Buffer): readonly Buffer[];
  /** Nothing may be dialled until this is true. */
  readonly proven: boolean;
}

export interface InspectorOptions {
  readonly tls: TlsMode;
  readonly target: EgressTarget;
}

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
    return [];
  }

  fromServer(): readonly Buffer[] {
    return [];
  }
}

/** The first bytes are a ClientHello for the target, or nothing passes. */
class HelloInspector implements StreamInspector {
  readonly #target: EgressTarget;
  #kept: Buffer = Buffer.alloc(0);
  #proven = false;

  constructor(target: EgressTarget) {
    this.#target = target;
  }

  get proven(): boolean {
    return this.#proven;
  }

  push(chunk: Buffer): readonly Buffer[] {
    if (this.#proven) return [chunk];
    this.#kept = Buffer.concat([this.#kept, chunk]);
    const hello = readClientHello(this.#kept);
    if (hello === undefined) return [];
    if (hello.serverName === null && this.#target.kind === "name")
      throw refuse("its ClientHello names nobody");
    assertServerName(hello, this.#target);
    this.#proven = true;
    return [this.#kept];
  }

  end(): readonly Buffer[] {
    if (!this.#proven) throw refuse("it ended before its ClientHello was whole");
    return [];
  }

  fromServer(): readonly Buffer[] {
    return [];
  }
}

/**
 * Where a name shows it must be the target's; protocols that show none pass. A line that may yet become a request passes
 * up to its end, since no server acts on it before: a client that says a word without a newline and waits for an answer
 * must not wait for ever.
 */
class ProtocolInspector implements StreamInspector {
  readonly proven = true;
  readonly #target: EgressTarget;
  #protocol: Protocol | undefined;
  #kept: Buffer = Buffer.alloc(0);
  /** Of the kept bytes, how many have passed already. */
  #passedBytes = 0;
  #http: HttpFollower | undefined;

  constructor(target: EgressTarget) {
    this.#target = target;
  }

  push(chunk: Buffer): readonly Buffer[] {
    if (this.#http !== undefined) return this.#http.push(chunk);
    if (this.#protocol === "other") return [chunk];
    this.#kept = Buffer.concat([this.#kept, chunk]);
    this.#protocol = classify(this.#kept);
    return this.#pass(chunk);
  }

  end(): readonly Buffer[] {
    if (this.#http !== undefined) return this.#http.end();
    if (this.#protocol === "tls") throw refuse("it ended before its ClientHello was whole");
    return this.#release();
  }

  fromServer(chunk: Buffer): readonly Buffer[] {
    return this.#http?.fromServer(chunk) ?? [];
  }

  #pass(chunk: Buffer): readonly Buffer[] {
    switch (this.#protocol) {
      case undefined:
        this.#passedBytes += chunk.length;
        return [chunk];
      case "http2":
        throw refuse("HTTP/2 without TLS hides whom it is for");
      case "http":
        return this.#follow();
      case "other":
        return this.#release();
      case "tls":
        return this.#passHello();
    }
  }

  #follow(): readonly Buffer[] {
    const kept = this.#kept;
    this.#http = new HttpFollower(this.#target, this.#passedBytes);
    this.#kept = Buffer.alloc(0);
    return this.#http.push(kept);
  }

  #passHello(): readonly Buffer[] {
    const hello = readClientHello(this.#kept);
    if (hello === undefined) return [];
    assertServerName(hello, this.#target);
    this.#protocol = "other";
    return this.#release();
  }

  #release(): readonly Buffer[] {
    const kept = this.#kept.subarray(this.#passedBytes);
    this.#kept = Buffer.alloc(0);
    this.#passedBytes = 0;
    return kept.length === 0 ? [] : [kept];
  }
}

/** A name may be missing here; who dials an address may say any name. */
function assertServerName({ serverName, isEncrypted }: ClientHello, target: EgressTarget): void {
  if (isEncrypted) throw refuse("its ClientHello hides whom it is for");
  if (serverName === null || target.kind === "address") return;
  let name: string | undefined;
  try {
    name = canonicalHostName(serverName);
  } catch {
    name = undefined;
  }
  if (name === target.host) return;
  throw refuse(
    `its ClientHello is for ${JSON.stringify(serverName.slice(0, 100))}, not for ${formatTarget(target)}`,
  );
}

function refuse(why: string): KitError {
  return new KitError("E_EGRESS_INSPECTION", why);
}
