import { readPurpose } from "../../attest/user-data.ts";
import type { AuthenticDocument } from "../../attest/verify/document-verifier.ts";
import { toHex } from "../../core/bytes.ts";
import { toPrintable } from "../../core/printable.ts";
import type { Verification, VerifyRequest } from "../controller/verify/verify-document.ts";

type Colour = (style: "green" | "red" | "yellow", text: string) => string;

/** For people. What a document says of itself was made by whoever asked for it, so it is made fit for a terminal. */
export function describeVerification(
  { document, proven, notProven, refusal }: Verification,
  colour: Colour,
): string {
  const verdict =
    refusal === null
      ? `${colour("green", "verified")}: everything that was asked for holds`
      : `${colour("red", "refused")}: the document is authentic, but not what was asked for`;
  return [
    verdict,
    "proven:",
    ...proven.map((words) => `  ${colour("green", "+")} ${words}`),
    ...(refusal === null ? [] : ["not met:", `  ${colour("red", "x")} ${refusal.message}`]),
    ...(notProven.length === 0 ? [] : ["not proven:"]),
    ...notProven.map((words) => `  ${colour("yellow", "-")} ${words}`),
    "the document:",
    ...describeDocument(document).map(([name, value]) => `  ${name.padEnd(12)}${toLine(value)}`),
  ].join("\n");
}

/** A document must not add lines to the verdict about it. */
function toLine(text: string): string {
  return toPrintable(text).replaceAll("\n", " ");
}

const ZERO = /^0+$/;

function describeDocument(document: AuthenticDocument): [name: string, value: string][] {
  const { moduleId, timestampMs, pcrs, nonce, userData, publicKey, unknownKeys, chain } = document;
  const purpose = userData === null ? null : readPurpose(userData);
  const registers = [...pcrs].map(([index, value]) => [`PCR${index}`, toHex(value)] as const);
  return [
    ["module", moduleId],
    ["made at", isDate(timestampMs) ? new Date(timestampMs).toISOString() : `${timestampMs} ms`],
    ...registers
      .filter(([, value]) => !ZERO.test(value))
      .map(([name, value]): [string, string] => [name, value]),
    ...describeBytes("nonce", nonce),
    ...describeBytes("user data", userData),
    ...(purpose === null ? [] : [["purpose", purpose] satisfies [string, string]]),
    ...describeBytes("public key", publicKey),
    ...unknownKeys.map((key): [string, string] => ["unknown key", key.slice(0, 80)]),
    ["signed by", chain.at(-1)?.subject ?? ""],
  ];
}

function isDate(timeMs: number): boolean {
  return !Number.isNaN(new Date(timeMs).getTime());
}

function describeBytes(name: string, bytes: Uint8Array | null): [name: string, value: string][] {
  return bytes === null ? [] : [[name, `${toHex(bytes)} (${bytes.length} bytes)`]];
}

export function verificationToJson(
  { document, proven, notProven }: Verification,
  request: VerifyRequest,
): unknown {
  const { moduleId, digest, timestampMs, pcrs, userData, isDebug, rootSha256, unknownKeys, chain } = document;
  const hex = (bytes: Uint8Array | null): string | null => (bytes === null ? null : toHex(bytes));
  return {
    verdict: "verified",
    at: new Date(request.atMs).toISOString(),
    audit: !request.isNow,
    root: { sha256: rootSha256, aws: request.root.isAws },
    proven,
    notProven,
    document: {
      moduleId,
      digest,
      timestampMs,
      debug: isDebug,
      registers: Object.fromEntries([...pcrs].map(([index, value]) => [index, toHex(value)])),
      nonce: hex(document.nonce),
      userData: hex(userData),
      purpose: userData === null ? null : readPurpose(userData),
      publicKey: hex(document.publicKey),
      unknownKeys,
      chain: chain.map(({ subject, notBeforeMs, notAfterMs }) => ({
        subject,
        notBefore: new Date(notBeforeMs).toISOString(),
        notAfter: new Date(notAfterMs).toISOString(),
      })),
    },
  };
}
