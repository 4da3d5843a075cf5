/**
 * The signature section, in the shape that AWS's tools write and read. Byte strings are arrays of integers there:
 *
 *   [ { "signing_certificate": [PEM…], "signature": [COSE_Sign1…] } ]
 *   COSE_Sign1 = [ bstr .cbor {1: alg}, {}, bstr .cbor {"register_index": 0, "register_value": [48 integers]}, bstr ]
 *
 * What is signed: CBOR of ["Signature1", protected, h'', payload]; a signature is r || s.
 */
import { KitError } from "../../core/errors.ts";
import { decodeCbor } from "../cbor/cbor-decoder.ts";
import { encodeCbor } from "../cbor/cbor-encoder.ts";
import { CborError } from "../cbor/cbor-input.ts";
import type { CborMap, CborValue } from "../cbor/cbor-value.ts";
import { MAX_SECTION_BYTES } from "./eif-layout.ts";

/** COSE numbers of the algorithms, by name. */
export const COSE_ALGORITHM = { ES256: -7, ES384: -35, ES512: -36 } as const;
export type SignatureAlgorithm = keyof typeof COSE_ALGORITHM;

export interface EifSignature {
  readonly certificatePem: string;
  readonly algorithm: SignatureAlgorithm;
  /** Number and value of the register that is signed. */
  readonly registerIndex: number;
  readonly registerValue: Buffer;
  /** r || s */
  readonly signature: Buffer;
  /** The bytes that it is over. */
  readonly signedBytes: Buffer;
}

const REGISTER_BYTES = 48;
const LIMITS = { maxDepth: 4, maxItems: MAX_SECTION_BYTES.signature, maxBytes: MAX_SECTION_BYTES.signature };
const COSE_LIMITS = { maxDepth: 4, maxItems: 200, maxBytes: 4096 };

/** The bytes to sign for a value of PCR0. */
export function signedBytesOf(algorithm: SignatureAlgorithm, pcr0: Uint8Array): Buffer {
  const { protectedHeader, payload } = encodeParts(algorithm, pcr0);
  return sigStructure(protectedHeader, payload);
}

/** @param signature r || s over signedBytesOf(algorithm, pcr0) */
export function encodeSignatureSection(init: {
  readonly certificatePem: string;
  readonly algorithm: SignatureAlgorithm;
  readonly pcr0: Uint8Array;
  readonly signature: Uint8Array;
}): Buffer {
  const { protectedHeader, payload } = encodeParts(init.algorithm, init.pcr0);
  const sign1 = encodeCbor([protectedHeader, new Map(), payload, init.signature]);
  const entry = new Map<string, CborValue>([
    ["signing_certificate", [...Buffer.from(init.certificatePem)]],
    ["signature", [...sign1]],
  ]);
  return encodeCbor([entry]);
}

function encodeParts(algorithm: SignatureAlgorithm, pcr0: Uint8Array) {
  const payload = new Map<string, CborValue>([
    ["register_index", 0],
    ["register_value", [...pcr0]],
  ]);
  return {
    protectedHeader: encodeCbor(new Map([[1, COSE_ALGORITHM[algorithm]]])),
    payload: encodeCbor(payload),
  };
}

function sigStructure(protectedHeader: Uint8Array, payload: Uint8Array): Buffer {
  return encodeCbor(["Signature1", protectedHeader, new Uint8Array(), payload]);
}

/** The first signature of the section; its form is checked here, its truth by whoever verifies. @throws E_EIF_SIGNATURE */
export function decodeSignatureSection(bytes: Uint8Array): EifSignature {
  try {
    return readSection(decodeCbor(bytes, LIMITS));
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
    throw refusal(`is not CBOR as expected: ${error.message}`, error);
  }
}

function readSection(value: CborValue): EifSignature {
  const [entry] = isList(value) ? value : [];
  if (!isList(value) || value.length !== 1 || !(entry instanceof Map))
    throw refusal("is not a list of one signature");
  if (entry.size !== 2) throw refusal("has keys that nobody knows");
  return {
    certificatePem: readBytes(entry, "signing_certificate").toString("latin1"),
    ...readSign1(readBytes(entry, "signature")),
  };
}

function readSign1(bytes: Uint8Array): Omit<EifSignature, "certificatePem"> {
  const sign1 = decodeCbor(bytes, COSE_LIMITS);
  if (!isList(sign1) || sign1.length !== 4) throw refusal("is no COSE_Sign1");
  const [protectedHeader, unprotected, payload, signature] = sign1;
  if (!isBytes(protectedHeader) || !isBytes(payload) || !isBytes(signature))
    throw refusal("has parts of another type");
  if (!(unprotected instanceof Map) || unprotected.size > 0) throw refusal("has unprotected headers");
  return {
    algorithm: readAlgorithm(protectedHeader),
    ...readPayload(payload),
    signature: Buffer.from(signature),
    signedBytes: sigStructure(protectedHeader, payload),
  };
}

function readAlgorithm(protectedHeader: Uint8Array): SignatureAlgorithm {
  const header = decodeCbor(protectedHeader, COSE_LIMITS);
  const number = header instanceof Map && header.size === 1 ? header.get(1) : undefined;
  const found = Object.entries(COSE_ALGORITHM).find(([, value]) => value === number)?.[0];
  if (found === "ES256" || found === "ES384" || found === "ES512") return found;
  throw refusal("has no known algorithm");
}

function readPayload(bytes: Uint8Array): Pick<EifSignature, "registerIndex" | "registerValue"> {
  const payload = decodeCbor(bytes, COSE_LIMITS);
  const index = payload instanceof Map ? payload.get("register_index") : undefined;
  if (!(payload instanceof Map) || payload.size !== 2 || typeof index !== "number")
    throw refusal("has a payload of another form");
  const registerValue = readBytes(payload, "register_value");
  if (registerValue.length !== REGISTER_BYTES)
    throw refusal(`signs a value of ${registerValue.length} bytes`);
  return { registerIndex: index, registerValue };
}

/** A list of integers from 0 to 255, or a byte string. */
function readBytes(map: CborMap, key: string): Buffer {
  const value = map.get(key);
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (!isList(value)) throw refusal(`has no ${key}`);
  const bytes = Buffer.alloc(value.length);
  for (const [index, item] of value.entries()) {
    if (typeof item !== "number" || item < 0 || item > 255)
      throw refusal(`has a ${key} that is not of bytes`);
    bytes[index] = item;
  }
  return bytes;
}

function isList(value: unknown): value is readonly CborValue[] {
  return Array.isArray(value);
}

function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array;
}

function refusal(why: string, cause?: unknown): KitError {
  return new KitError("E_EIF_SIGNATURE", `the signature of the image ${why}`, { cause });
}
