/** Prefaces of egress connections and their answers; questions to the resolver. */
import { KitError } from "../../core/errors.ts";
import { NameTable } from "../../pf-proxy/names/name-table.ts";
import { Resolver } from "../../pf-proxy/resolver/resolver.ts";
import {
  decodeEgressAnswer,
  decodeEgressHead,
  decodeEgressTarget,
  EGRESS_HEAD_BYTES,
  encodeEgressAnswer,
  encodeEgressPreface,
} from "../../wire/egress-preface.ts";
import type { FuzzCase } from "./fuzz-target.ts";
import { mutate, type Mutation } from "./mutation.ts";

const hex = (value: string): Buffer => Buffer.from(value.replaceAll(" ", ""), "hex");
const TOKEN = hex("00 11 22 33 44 55 66 77");
const PREFACES: readonly [Buffer, ...Buffer[]] = [
  Buffer.from(encodeEgressPreface({ kind: "name", name: "api.example.com" }, 443, TOKEN)),
  Buffer.from(encodeEgressPreface({ kind: "ipv4", bytes: hex("c0 00 02 01") }, 80, TOKEN)),
  Buffer.from(
    encodeEgressPreface({ kind: "ipv6", bytes: hex("20010db8000000000000000000000001") }, 1, TOKEN),
  ),
  Buffer.from(encodeEgressAnswer("connected", TOKEN)),
  Buffer.from(encodeEgressAnswer("busy", TOKEN)),
];
const PREFACE_MUTATION: Mutation = { words: [hex("454f01"), hex("00"), hex("ff"), TOKEN], maxBytes: 1024 };

export const runPrefaceCase: FuzzCase = (random) => {
  const bytes = mutate(random, random.pick(PREFACES), PREFACE_MUTATION);
  const results = [tryDecode(() => decodePreface(bytes)), tryDecode(() => decodeEgressAnswer(bytes, TOKEN))];
  return results.includes("passed") ? "passed" : "refused";
};

/** What is decoded says the same when it is encoded again. */
function decodePreface(bytes: Buffer): void {
  const head = decodeEgressHead(bytes.subarray(0, EGRESS_HEAD_BYTES));
  const whole = bytes.subarray(0, EGRESS_HEAD_BYTES + head.lengthBytes);
  const target = decodeEgressTarget(head, whole.subarray(EGRESS_HEAD_BYTES));
  if (!whole.equals(encodeEgressPreface(target, head.port, head.token)))
    throw new Error("another preface came out");
}

function tryDecode(decode: () => unknown): string {
  try {
    decode();
    return "passed";
  } catch (error) {
    if (error instanceof KitError) return "refused";
    throw error;
  }
}

const NAME = "03 617069 07 6578616d706c65 03 636f6d 00";
const QUESTIONS: readonly [Buffer, ...Buffer[]] = [
  hex(`1234 0100 0001 0000 0000 0000 ${NAME} 0001 0001`),
  hex(`1234 0100 0001 0000 0000 0001 ${NAME} 001c 0001 00 0029 1000 0000 0000 0000`),
  hex(
    "1234 0100 0001 0000 0000 0000 01 31 01 30 02 3138 03 313938 07 696e2d61646472 04 61727061 00 000c 0001",
  ),
  hex(`1234 0100 0001 0000 0000 0000 ${NAME} 00ff 00ff`),
];
const DNS_MUTATION: Mutation = {
  words: [
    hex("c00c"),
    hex("c000"),
    hex("00"),
    hex("3f"),
    hex("40"),
    hex("00 0029 ffff 0000 0000 0000"),
    hex(NAME),
  ],
  maxBytes: 20_000,
};
const MAX_UDP_BYTES = 1232;

export async function createDnsCase(): Promise<FuzzCase> {
  const names = await NameTable.open({ names: ["api.example.com"] });
  const resolver = new Resolver({
    answersName: (name) => name === "example.com" || name.endsWith(".example.com"),
    names,
    ipv6: true,
    onDenied: () => undefined,
  });
  return async (random) => {
    const message = mutate(random, random.pick(QUESTIONS), DNS_MUTATION);
    const transport = random.pick(["udp", "tcp"] as const);
    const answer = await resolver.answer(message, transport);
    if (answer === undefined) return "unanswered";
    if (transport === "udp" && answer.length > MAX_UDP_BYTES)
      throw new Error(`an answer of ${answer.length} bytes`);
    if (answer.readUInt16BE(0) !== message.readUInt16BE(0)) throw new Error("an answer to something else");
    return (answer.readUInt16BE(2) & 0xf) === 0 ? "passed" : "refused";
  };
}
