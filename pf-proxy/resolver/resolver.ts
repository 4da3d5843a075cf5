/**
 * The enclave's resolver. It asks nobody: a name that the policy allows has an address of its own (names/name-table.ts),
 * every other name does not exist. Both are said at once, so that programs fail or go on without waiting.
 */
import { type Answer, encode, type Packet } from "dns-packet";

import { toIpv6Form, type NameTable } from "../names/name-table.ts";
import { canonicalHostName } from "../policy/host-name.ts";
import { formatAddress } from "../policy/network.ts";
import { type DnsQuestion, readRequest, udpRoom } from "./dns-message.ts";

export interface ResolverOptions {
  /** Whether the policy allows a canonical name on some port. */
  readonly answersName: (name: string) => boolean;
  readonly names: NameTable;
  /** Without it there are no AAAA records. */
  readonly ipv6: boolean;
  readonly onDenied: (name: string, reason: "no_rule" | "not_a_name" | "limit") => void;
  /** Done before the address of a name is told. */
  readonly beforeAnswer?: (name: string) => Promise<void>;
}

const TYPE = { A: 1, PTR: 12, AAAA: 28 } as const;
const CLASS_IN = 1;
const CODE = { ok: 0, serverFailure: 2, noSuchName: 3, refused: 5 } as const;
/** Bits of the flags: authoritative, truncated, recursion desired and available. */
const FLAG = { aa: 0x0400, tc: 0x0200, rd: 0x0100, ra: 0x0080 } as const;
const TTL_S = 60;
/** Rules may change in development. */
const NEGATIVE_TTL_S = 1;
const MAX_SHOWN = 255;
const EDNS_BYTES = 1232;

interface Reply {
  readonly code: number;
  readonly answers: readonly Answer[];
}

export class Resolver {
  readonly #options: ResolverOptions;

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** Undefined: nothing is to be answered. */
  async answer(message: Uint8Array, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
    const request = readRequest(message);
    if (request.kind === "ignored") return undefined;
    if (request.kind === "refused") return encodeRefusal(request.id, request.code);
    const { question } = request;
    const reply = await this.#resolve(question).catch((): Reply => ({
      code: CODE.serverFailure,
      answers: [],
    }));
    const bytes = encodeReply(question, reply);
    if (transport === "tcp" || bytes.length <= udpRoom(question)) return bytes;
    return encodeReply(question, { ...reply, answers: [] }, FLAG.tc);
  }

  async #resolve(question: DnsQuestion): Promise<Reply> {
    if (question.class !== CLASS_IN) return { code: CODE.refused, answers: [] };
    const name = canonicalName(question.name);
    if (name === undefined) {
      this.#options.onDenied(describe(question), "not_a_name");
      return { code: CODE.noSuchName, answers: [] };
    }
    if (name === "localhost" || name.endsWith(".localhost")) return answerLocal(question);
    if (question.type === TYPE.PTR && name.endsWith(".arpa")) return this.#answerPointer(question, name);
    if (!this.#options.answersName(name)) {
      this.#options.onDenied(name, "no_rule");
      return { code: CODE.noSuchName, answers: [] };
    }
    return await this.#answerAddress(question, name);
  }

  async #answerAddress(question: DnsQuestion, name: string): Promise<Reply> {
    const { names, ipv6, beforeAnswer, onDenied } = this.#options;
    const wantsIpv6 = question.type === TYPE.AAAA && ipv6;
    if (question.type !== TYPE.A && !wantsIpv6) return { code: CODE.ok, answers: [] };
    const address = await names.addressOf(name);
    if (address === undefined) {
      onDenied(name, "limit");
      return { code: CODE.serverFailure, answers: [] };
    }
    await beforeAnswer?.(name);
    const data = wantsIpv6 ? toIpv6Form(address) : address;
    return { code: CODE.ok, answers: [{ name, type: wantsIpv6 ? "AAAA" : "A", ttl: TTL_S, data }] };
  }

  #answerPointer(question: DnsQuestion, name: string): Reply {
    const address = addressOfPointer(name);
    const found = address === undefined ? undefined : this.#options.names.nameAt(address);
    if (found === undefined) return { code: CODE.noSuchName, answers: [] };
    return {
      code: CODE.ok,
      answers: [{ name: question.name ?? name, type: "PTR", ttl: TTL_S, data: found }],
    };
  }
}

function canonicalName(name: string | null): string | undefined {
  if (name === null) return undefined;
  try {
    return canonicalHostName(name);
  } catch {
    return undefined;
  }
}

/** Whatever the bytes were, on one line. */
function describe({ bytes }: DnsQuestion): string {
  return JSON.stringify(Buffer.from(bytes.subarray(0, -4)).toString("latin1")).slice(0, MAX_SHOWN);
}

function answerLocal({ type, name }: DnsQuestion): Reply {
  const data = type === TYPE.A ? "127.0.0.1" : type === TYPE.AAAA ? "::1" : undefined;
  if (data === undefined || name === null) return { code: CODE.ok, answers: [] };
  return { code: CODE.ok, answers: [{ name, type: type === TYPE.A ? "A" : "AAAA", ttl: TTL_S, data }] };
}

/** `2.0.18.198.in-addr.arpa`, or 32 nibbles below ip6.arpa. */
function addressOfPointer(name: string): string | undefined {
  const v4 = /^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4 !== null) return v4.slice(1).reverse().join(".");
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)?.[1];
  if (v6 === undefined) return undefined;
  return formatAddress(Buffer.from(v6.replaceAll(".", "").split("").reverse().join(""), "hex"));
}

/** The question goes back byte for byte: some clients mix cases and look whether they come back. */
function encodeReply(question: DnsQuestion, { code, answers }: Reply, more = 0): Buffer {
  const { id, recursionDesired, bytes, ednsBytes } = question;
  const isMissing = code === CODE.noSuchName || (code === CODE.ok && answers.length === 0);
  const packet: Packet = {
    id,
    type: "response",
    flags: FLAG.aa | FLAG.ra | (recursionDesired ? FLAG.rd : 0) | more | code,
    answers: [...answers],
    authorities: isMissing ? [startOfAuthority()] : [],
    additionals:
      ednsBytes === undefined
        ? []
        : [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize: EDNS_BYTES,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
  };
  const encoded = encode(packet);
  encoded.writeUInt16BE(1, 4);
  return Buffer.concat([encoded.subarray(0, 12), bytes, encoded.subarray(12)]);
}

/** Tells for how long a name does not exist. */
function startOfAuthority(): Answer {
  const data = {
    mname: "localhost",
    rname: "nobody.invalid",
    serial: 1,
    refresh: NEGATIVE_TTL_S,
    retry: NEGATIVE_TTL_S,
    expire: NEGATIVE_TTL_S,
    minimum: NEGATIVE_TTL_S,
  };
  return { name: ".", type: "SOA", ttl: NEGATIVE_TTL_S, data };
}

function encodeRefusal(id: number, code: number): Buffer {
  return encode({ id, type: "response", flags: FLAG.ra | code });
}
