/**
 * The enclave's resolver. It asks nobody: a name that the policy allows has an address of its own (names/name-table.ts),
 * every other name does not exist. Both are said at once, so that programs fail or go on without waiting.
 */
import { toIpv6Form, type NameTable } from "../names/name-table.ts";
import { canonicalHostName } from "../policy/host-name.ts";
import { formatAddress } from "../policy/network.ts";
import { type DnsQuestion, readRequest } from "./dns-message.ts";
import { DNS_CODE, type DnsReply, encodeRefusal, encodeReply } from "./dns-reply.ts";

export interface ResolverOptions {
  /** Whether the policy allows a canonical name on some port. */
  readonly answersName: (name: string) => boolean;
  readonly names: NameTable;
  /** Without it there are no AAAA records. */
  readonly ipv6: boolean;
  /** Once for each question. `name` has at most 255 characters, all of them plain ASCII. */
  readonly onDenied: (name: string, reason: "no_rule" | "not_a_name" | "limit") => void;
  /** Done before the address of a name is told. */
  readonly beforeAnswer?: (name: string) => Promise<void>;
}

const TYPE = { A: 1, PTR: 12, AAAA: 28 } as const;
const CLASS_IN = 1;
const MAX_SHOWN = 255;
const NO_SUCH_NAME: DnsReply = { code: DNS_CODE.noSuchName };
const NO_RECORD: DnsReply = { code: DNS_CODE.ok };

export class Resolver {
  readonly #options: ResolverOptions;

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** Any bytes. Undefined: nothing is to be answered. */
  async answer(message: Uint8Array, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
    const request = readRequest(message, transport);
    if (request.kind === "ignored") return undefined;
    if (request.kind === "refused") return encodeRefusal(request.header, request.code);
    const { question } = request;
    const failure: DnsReply = { code: DNS_CODE.serverFailure };
    return encodeReply(question, await this.#resolve(question).catch(() => failure));
  }

  async #resolve(question: DnsQuestion): Promise<DnsReply> {
    if ((question.ednsVersion ?? 0) > 0) return { code: DNS_CODE.badVersion };
    if (question.class !== CLASS_IN) return { code: DNS_CODE.refused };
    const name = canonicalName(question.name);
    if (name === undefined) return this.#deny(question.shown.slice(0, MAX_SHOWN), "not_a_name");
    if (name === "localhost" || name.endsWith(".localhost")) return this.#answerLocal(question);
    const pointed = question.type === TYPE.PTR ? addressOfPointer(name) : undefined;
    if (pointed !== undefined) return this.#answerPointer(pointed);
    if (!this.#options.answersName(name)) return this.#deny(name, "no_rule");
    return await this.#answerAddress(question, name);
  }

  #deny(name: string, reason: "no_rule" | "not_a_name"): DnsReply {
    this.#options.onDenied(name, reason);
    return NO_SUCH_NAME;
  }

  async #answerAddress({ type }: DnsQuestion, name: string): Promise<DnsReply> {
    const { names, ipv6, beforeAnswer, onDenied } = this.#options;
    const wantsIpv6 = type === TYPE.AAAA && ipv6;
    if (type !== TYPE.A && !wantsIpv6) return NO_RECORD;
    // A journal that has no room is a limit like that of the table.
    const address = await names.addressOf(name).catch(() => undefined);
    if (address === undefined) {
      onDenied(name, "limit");
      return { code: DNS_CODE.serverFailure };
    }
    await beforeAnswer?.(name);
    const record = wantsIpv6
      ? { type: "AAAA" as const, data: toIpv6Form(address) }
      : { type: "A" as const, data: address };
    return { code: DNS_CODE.ok, record };
  }

  /** RFC 6761: never asked of anybody. */
  #answerLocal({ type }: DnsQuestion): DnsReply {
    if (type === TYPE.A) return { code: DNS_CODE.ok, record: { type: "A", data: "127.0.0.1" } };
    if (type !== TYPE.AAAA || !this.#options.ipv6) return NO_RECORD;
    return { code: DNS_CODE.ok, record: { type: "AAAA", data: "::1" } };
  }

  /** What stands for no name has none; nobody outside is asked for it, so this is no denial. */
  #answerPointer(address: string): DnsReply {
    const name = this.#options.names.nameAt(address);
    return name === undefined ? NO_SUCH_NAME : { code: DNS_CODE.ok, record: { type: "PTR", data: name } };
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

/** `0.1.18.198.in-addr.arpa`, or 32 nibbles below ip6.arpa. */
function addressOfPointer(name: string): string | undefined {
  const v4 = /^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4 !== null) return v4.slice(1).reverse().join(".");
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)?.[1];
  if (v6 === undefined) return undefined;
  return formatAddress(Buffer.from(v6.replaceAll(".", "").split("").reverse().join(""), "hex"));
}
