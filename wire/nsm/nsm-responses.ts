/** What the Nitro Security Module answers (aws-nitro-enclaves-nsm-api, src/api/mod.rs). Form: nsm-fields.ts. */
import { encodeCbor } from "../cbor/cbor-encoder.ts";
import type { CborValue } from "../cbor/cbor-value.ts";
import { encodeNsmMessage, NsmFields } from "./nsm-fields.ts";
import { NSM_RESPONSE_MAX_BYTES } from "./nsm-limits.ts";
import type { NsmRequestKind } from "./nsm-requests.ts";

/** Every name but Success: an error that says so is none, and no answer either. */
export const NSM_ERROR_NAMES = [
  "InvalidArgument",
  "InvalidIndex",
  "InvalidResponse",
  "ReadOnlyIndex",
  "InvalidOperation",
  "BufferTooSmall",
  "InputTooLarge",
  "InternalError",
] as const;
export type NsmErrorName = (typeof NSM_ERROR_NAMES)[number];

export interface NsmDescription {
  readonly version: readonly [major: number, minor: number, patch: number];
  readonly moduleId: string;
  readonly maxPcrs: number;
  readonly lockedPcrs: readonly number[];
  readonly digest: string;
}

/** What each request is answered with. */
export interface NsmContent {
  readonly DescribeNSM: NsmDescription;
  readonly DescribePCR: { readonly lock: boolean; readonly data: Uint8Array };
  /** The new value. */
  readonly ExtendPCR: { readonly data: Uint8Array };
  readonly LockPCR: object;
  readonly LockPCRs: object;
  readonly Attestation: { readonly document: Uint8Array };
  readonly GetRandom: { readonly random: Uint8Array };
}

export type NsmAnswer<K extends NsmRequestKind = NsmRequestKind> = {
  readonly [Kind in K]: { readonly kind: Kind } & NsmContent[Kind];
}[K];

export interface NsmRefusal {
  readonly kind: "Error";
  readonly error: NsmErrorName;
}

export function encodeNsmResponse(response: NsmAnswer | NsmRefusal): Buffer {
  switch (response.kind) {
    case "LockPCR":
    case "LockPCRs":
      return encodeCbor(response.kind);
    case "DescribePCR":
      return encodeNsmMessage(response.kind, [["lock", response.lock], ["data", response.data]]); // prettier-ignore
    case "ExtendPCR":
      return encodeNsmMessage(response.kind, [["data", response.data]]);
    case "DescribeNSM":
      return encodeNsmMessage(response.kind, descriptionFields(response));
    case "Attestation":
      return encodeNsmMessage(response.kind, [["document", response.document]]);
    case "GetRandom":
      return encodeNsmMessage(response.kind, [["random", response.random]]);
    case "Error":
      return encodeCbor(new Map([["Error", response.error]]));
  }
}

function descriptionFields({ version, ...description }: NsmDescription): [string, CborValue][] {
  const [major, minor, patch] = version;
  return [
    ["version_major", major],
    ["version_minor", minor],
    ["version_patch", patch],
    ["module_id", description.moduleId],
    ["max_pcrs", description.maxPcrs],
    ["locked_pcrs", description.lockedPcrs],
    ["digest", description.digest],
  ];
}

const READERS: { readonly [Kind in NsmRequestKind]: (message: NsmFields) => NsmContent[Kind] } = {
  DescribeNSM: (message) => ({
    version: [
      message.number("version_major"),
      message.number("version_minor"),
      message.number("version_patch"),
    ],
    moduleId: message.text("module_id"),
    maxPcrs: message.number("max_pcrs"),
    lockedPcrs: message.numbers("locked_pcrs"),
    digest: message.text("digest"),
  }),
  DescribePCR: (message) => ({ lock: message.boolean("lock"), data: message.bytes("data") }),
  ExtendPCR: (message) => ({ data: message.bytes("data") }),
  LockPCR: readNothing,
  LockPCRs: readNothing,
  Attestation: (message) => ({ document: message.bytes("document") }),
  GetRandom: (message) => ({ random: message.bytes("random") }),
};

function readNothing(message: NsmFields): object {
  message.bare();
  return {};
}

/**
 * Fields that are not known are passed over, as AWS's own client does: minor versions of the device may add some.
 * Byte strings of the result are views of `bytes`, but for those of indefinite length.
 * @param request what was asked
 * @throws E_NSM_RESPONSE for anything but an error or an answer to `request`
 */
export function decodeNsmResponse<K extends NsmRequestKind>(
  bytes: Uint8Array,
  { kind }: { readonly kind: K },
): NsmContent[K] | NsmRefusal {
  const message = new NsmFields(bytes, NSM_RESPONSE_MAX_BYTES, "E_NSM_RESPONSE");
  if (message.name === "Error") return { kind: "Error", error: message.oneOf(NSM_ERROR_NAMES) };
  if (message.name !== kind) throw message.refuse(`is no answer to ${kind}`);
  return READERS[kind](message);
}

export function isNsmRefusal(response: object): response is NsmRefusal {
  return "error" in response;
}
