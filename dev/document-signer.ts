/** Attestation documents as AWS's devices write them (wire/attestation-document.ts), signed below a development root. */
import { encodeCbor } from "../wire/cbor/cbor-encoder.ts";
import { BREAK, type CborValue } from "../wire/cbor/cbor-value.ts";
import {
  COSE_ES384,
  encodeCoseSign1,
  encodeProtectedHeader,
  encodeSignedBytes,
} from "../wire/cose/cose-sign1.ts";
import type { AttestationFields } from "../wire/nsm/nsm-requests.ts";
import type { Leaf } from "./certificate-chain.ts";
import { SIGNATURE_ALGORITHM } from "./certificate-writer.ts";

/** How the map of a document says its length; that of AWS's devices is indefinite since late 2025. */
export type DocumentForm = "definite" | "indefinite";

export interface DocumentContent extends AttestationFields {
  readonly moduleId: string;
  readonly timestampMs: number;
  readonly registers: readonly (readonly [number, Uint8Array])[];
}

const INDEFINITE_MAP = 0xbf;

/** @returns COSE_Sign1 without a tag */
export async function signDocument(
  content: DocumentContent,
  leaf: Leaf,
  form: DocumentForm,
): Promise<Uint8Array> {
  const protectedHeader = encodeProtectedHeader(COSE_ES384);
  const payload = encodePayload(payloadEntries(content, leaf), form);
  const toBeSigned = encodeSignedBytes(protectedHeader, payload);
  // r || s, which is what COSE wants.
  const signature = await crypto.subtle.sign(SIGNATURE_ALGORITHM, leaf.keys.privateKey, toBeSigned);
  return encodeCoseSign1({ protectedHeader, payload, signature: new Uint8Array(signature) });
}

/** In AWS's order; what is absent is null. */
function payloadEntries(content: DocumentContent, leaf: Leaf): (readonly [string, CborValue])[] {
  return [
    ["module_id", content.moduleId],
    ["digest", "SHA384"],
    ["timestamp", content.timestampMs],
    ["pcrs", new Map(content.registers)],
    ["certificate", leaf.certificate],
    ["cabundle", leaf.bundle],
    ["public_key", content.publicKey],
    ["user_data", content.userData],
    ["nonce", content.nonce],
  ];
}

function encodePayload(entries: readonly (readonly [string, CborValue])[], form: DocumentForm): Uint8Array {
  if (form === "definite") return encodeCbor(new Map(entries));
  const items = entries.flat().map((item) => encodeCbor(item));
  return Buffer.concat([Buffer.of(INDEFINITE_MAP), ...items, Buffer.of(BREAK)]);
}
