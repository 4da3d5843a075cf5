/**
 * Answers. Each repeats its question byte for byte, because some clients mix cases and look whether they come back, and
 * the name of a record is a pointer to the question (RFC 1035, 4.1.4). An answer has at most one record, so that the
 * longest stays below the 512 bytes that every client takes over UDP: none is ever truncated.
 */
import { type Answer, encode, type OptAnswer } from "dns-packet";

import { DNS_HEADER_BYTES, type DnsHeader, type DnsQuestion } from "./dns-message.ts";

export const DNS_CODE = { ok: 0, serverFailure: 2, noSuchName: 3, refused: 5, badVersion: 16 } as const;

export interface DnsReply {
  readonly code: number;
  /** Absent: the name has no record of the type. */
  readonly record?: { readonly type: "A" | "AAAA" | "PTR"; readonly data: string };
}

const FLAG = { authoritative: 0x0400, recursionAvailable: 0x0080 } as const;
const TTL_S = 60;
/** Rules may change in development. */
const NEGATIVE_TTL_S = 1;
const EDNS_BYTES = 1232;
const POINTER_TO_QUESTION = Uint8Array.of(0xc0, DNS_HEADER_BYTES);

export function encodeReply(question: DnsQuestion, { code, record }: DnsReply): Buffer {
  const { id, kept, bytes, ednsVersion } = question;
  const isMissing = record === undefined && (code === DNS_CODE.ok || code === DNS_CODE.noSuchName);
  const encoded = encode({
    id,
    type: "response",
    flags: kept | FLAG.authoritative | FLAG.recursionAvailable | (code & 0x0f),
    answers: record === undefined ? [] : [{ name: ".", ttl: TTL_S, ...record }],
    authorities: isMissing ? [startOfAuthority()] : [],
    additionals: ednsVersion === undefined ? [] : [optionsOf(code)],
  });
  encoded.writeUInt16BE(1, 4);
  const header = encoded.subarray(0, DNS_HEADER_BYTES);
  const records = encoded.subarray(DNS_HEADER_BYTES);
  if (record === undefined) return Buffer.concat([header, bytes, records]);
  return Buffer.concat([header, bytes, POINTER_TO_QUESTION, records.subarray(1)]);
}

/** Without the question, which is malformed or of another kind. */
export function encodeRefusal({ id, kept }: DnsHeader, code: number): Buffer {
  return encode({ id, type: "response", flags: kept | FLAG.recursionAvailable | code });
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

/** Codes above 15 have their upper bits here. */
function optionsOf(code: number): OptAnswer {
  return {
    type: "OPT",
    name: ".",
    udpPayloadSize: EDNS_BYTES,
    extendedRcode: code >> 4,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
}
