/**
 * COSE_Sign1, a signed message with one signer (RFC 9052, section 4.2):
 *
 *   [ protected: bstr .cbor {1: algorithm, ...}, unprotected: {...}, payload: bstr, signature: bstr ]
 *
 * with tag 18 before it or none. What is signed is not the message but the CBOR of
 *
 *   ["Signature1", protected, h'' (nothing from outside), payload]
 *
 * so that nothing of `unprotected` is vouched for. Here it is read and left alone; that the algorithm or `crit` stand
 * there is refused, since a reader could take them for signed.
 */
import { KitError } from "../../core/errors.ts";
import { decodeCbor } from "../cbor/cbor-decoder.ts";
import { encodeCborBytes } from "../cbor/cbor-encoder.ts";
import { CborError } from "../cbor/cbor-input.ts";
import type { CborMap, CborValue } from "../cbor/cbor-value.ts";

/** ECDSA with SHA-384; with a key on P-384 where documents are signed by it. */
export const COSE_ES384 = -35;
const COSE_SIGN1_TAG = 18;
const HEADER = { algorithm: 1, critical: 2 } as const;

export interface CoseSign1 {
  /** As it came: the signature is over these bytes. */
  readonly protectedHeader: Uint8Array;
  readonly algorithm: number | bigint | string;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
}

const MAX_PROTECTED_BYTES = 256;
const HEADER_LIMITS = { maxDepth: 4, maxItems: 32, maxBytes: MAX_PROTECTED_BYTES };
const MESSAGE_LIMITS = { maxDepth: 6, maxItems: 128 };

/**
 * The parts of the result are views of `bytes`. Nothing is verified.
 * @param maxBytes of the whole message
 * @throws E_EVIDENCE_SIZE, E_EVIDENCE_ENCODING, E_EVIDENCE_COSE
 */
export function decodeCoseSign1(bytes: Uint8Array, maxBytes: number): CoseSign1 {
  if (bytes.length === 0 || bytes.length > maxBytes)
    throw new KitError("E_EVIDENCE_SIZE", `the document has ${bytes.length} bytes; 1 to ${maxBytes} can be`);
  const [header, unprotected, payload, signature] = readMessage(
    decodeItem(bytes, { ...MESSAGE_LIMITS, maxBytes }),
  );
  if (!(header instanceof Uint8Array)) throw malformed("the protected header is no byte string");
  if (!(unprotected instanceof Map)) throw malformed("the unprotected header is no map");
  for (const key of Object.values(HEADER))
    if (unprotected.has(key)) throw malformed(`header ${key} is not among the protected ones`);
  if (!(payload instanceof Uint8Array)) throw malformed("the payload is no byte string");
  if (!(signature instanceof Uint8Array)) throw malformed("the signature is no byte string");
  return { protectedHeader: header, algorithm: readAlgorithm(header), payload, signature };
}

/** An item that comes alone in untrusted bytes. @throws E_EVIDENCE_ENCODING */
export function decodeItem(bytes: Uint8Array, limits: Parameters<typeof decodeCbor>[1]): CborValue {
  try {
    return decodeCbor(bytes, limits);
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
    throw new KitError("E_EVIDENCE_ENCODING", `no CBOR as expected: ${error.message}`, { cause: error });
  }
}

function readMessage(value: CborValue): readonly CborValue[] {
  const message = isTagged(value) && value.tag === COSE_SIGN1_TAG ? value.value : value;
  if (!Array.isArray(message) || message.length !== 4)
    throw malformed("no list of protected header, unprotected header, payload and signature");
  return message;
}

function isTagged(value: CborValue): value is Extract<CborValue, { readonly tag: unknown }> {
  return typeof value === "object" && value !== null && "tag" in value;
}

function readAlgorithm(bytes: Uint8Array): CoseSign1["algorithm"] {
  if (bytes.length > MAX_PROTECTED_BYTES) throw malformed(`a protected header of ${bytes.length} bytes`);
  // Nothing at all is how an empty map may be written.
  const header: CborValue = bytes.length === 0 ? new Map() : decodeItem(bytes, HEADER_LIMITS);
  if (!isMap(header)) throw malformed("the protected header holds no map");
  if (header.has(HEADER.critical)) throw malformed("it has critical headers, which are not understood");
  const algorithm = header.get(HEADER.algorithm);
  if (typeof algorithm === "number" || typeof algorithm === "bigint" || typeof algorithm === "string")
    return algorithm;
  throw malformed("the protected header names no algorithm");
}

function isMap(value: CborValue): value is CborMap {
  return value instanceof Map;
}

/** The bytes that the signature is over. */
export function encodeSignedBytes(protectedHeader: Uint8Array, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return encodeCborBytes(["Signature1", protectedHeader, new Uint8Array(), payload]);
}

/** `{1: algorithm}`, as it goes into a message. */
export function encodeProtectedHeader(algorithm: number): Uint8Array<ArrayBuffer> {
  return encodeCborBytes(new Map([[HEADER.algorithm, algorithm]]));
}

/** Without a tag, as an NSM writes it. */
export function encodeCoseSign1(message: Omit<CoseSign1, "algorithm">): Uint8Array<ArrayBuffer> {
  const { protectedHeader, payload, signature } = message;
  return encodeCborBytes([protectedHeader, new Map(), payload, signature]);
}

function malformed(why: string): KitError {
  return new KitError("E_EVIDENCE_COSE", `no COSE_Sign1 message: ${why}`);
}
