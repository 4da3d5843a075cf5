/** What the Nitro Security Module can be asked (aws-nitro-enclaves-nsm-api, src/api/mod.rs). Form: nsm-fields.ts. */
import { encodeCbor } from "../cbor/cbor-encoder.ts";
import { encodeNsmMessage, NsmFields } from "./nsm-fields.ts";
import { NSM_REQUEST_MAX_BYTES } from "./nsm-limits.ts";

export interface AttestationFields {
  readonly userData: Uint8Array | null;
  readonly nonce: Uint8Array | null;
  readonly publicKey: Uint8Array | null;
}

export type NsmRequest =
  | { readonly kind: "DescribeNSM" | "GetRandom" }
  | { readonly kind: "DescribePCR" | "LockPCR"; readonly index: number }
  /** Registers 0 to `range` - 1. */
  | { readonly kind: "LockPCRs"; readonly range: number }
  | { readonly kind: "ExtendPCR"; readonly index: number; readonly data: Uint8Array }
  | ({ readonly kind: "Attestation" } & AttestationFields);

export type NsmRequestKind = NsmRequest["kind"];

/** @returns any number of bytes: whoever sends it looks at NSM_REQUEST_MAX_BYTES. Fields are in the order of AWS's own client */
export function encodeNsmRequest(request: NsmRequest): Buffer {
  switch (request.kind) {
    case "DescribeNSM":
    case "GetRandom":
      return encodeCbor(request.kind);
    case "LockPCRs":
      return encodeNsmMessage(request.kind, [["range", request.range]]);
    case "DescribePCR":
    case "LockPCR":
      return encodeNsmMessage(request.kind, [["index", request.index]]);
    case "ExtendPCR":
      return encodeNsmMessage(request.kind, [["index", request.index], ["data", request.data]]); // prettier-ignore
    case "Attestation":
      return encodeNsmMessage(request.kind, [["user_data", request.userData], ["nonce", request.nonce], ["public_key", request.publicKey]]); // prettier-ignore
  }
}

/**
 * Takes fields in any order and refuses those that are not known: the device would pass over `nonse` without a word.
 * Indices and lengths that the device itself refuses are not looked at.
 * Byte strings of the result are views of `bytes`, but for those of indefinite length.
 * @throws E_NSM_REQUEST for anything else, which an NSM answers with InvalidOperation
 */
export function decodeNsmRequest(bytes: Uint8Array): NsmRequest {
  const message = new NsmFields(bytes, NSM_REQUEST_MAX_BYTES, "E_NSM_REQUEST");
  switch (message.name) {
    case "DescribeNSM":
    case "GetRandom":
      message.bare();
      return { kind: message.name };
    case "DescribePCR":
    case "LockPCR":
      message.only("index");
      return { kind: message.name, index: message.number("index") };
    case "LockPCRs":
      message.only("range");
      return { kind: message.name, range: message.number("range") };
    case "ExtendPCR":
      message.only("index", "data");
      return { kind: message.name, index: message.number("index"), data: message.bytes("data") };
    case "Attestation":
      return { kind: message.name, ...readAttestationFields(message) };
    default:
      throw message.refuse("is no request");
  }
}

function readAttestationFields(message: NsmFields): AttestationFields {
  message.only("user_data", "nonce", "public_key");
  return {
    userData: message.optionalBytes("user_data"),
    nonce: message.optionalBytes("nonce"),
    publicKey: message.optionalBytes("public_key"),
  };
}
