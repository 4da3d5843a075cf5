/**
 * What an NSM signs: a COSE_Sign1 message (wire/cose) whose payload is a CBOR map, of definite length or not, its keys in
 * any order:
 *
 *   module_id    text, not empty
 *   digest       "SHA384"
 *   timestamp    milliseconds since the epoch, above zero
 *   pcrs         map of 1 to 32 registers: number (0 to 31) to 32, 48 or 64 bytes
 *   certificate  DER of the certificate of the key that signs, 1 to 1024 bytes
 *   cabundle     list of the certificates above it, the root first, 1 to 1024 bytes each
 *   public_key   bytes, 1 to 1024, or null
 *   user_data    bytes or null
 *   nonce        bytes or null
 *
 * A key that is missing says the same as null. Keys that are not listed are named, and their values are forgotten.
 */
import { KitError } from "../core/errors.ts";
import type { CborKey, CborMap, CborValue } from "./cbor/cbor-value.ts";
import { decodeItem } from "./cose/cose-sign1.ts";

/** Of the whole document. */
export const MAX_DOCUMENT_BYTES = 20 * 1024;
export const MAX_PAYLOAD_BYTES = 16 * 1024;
export const MAX_CERTIFICATE_BYTES = 1024;
/** AWS has four above the leaf. */
export const MAX_CABUNDLE = 16;
const MAX_REGISTERS = 32;
const MAX_PUBLIC_KEY_BYTES = 1024;
const REGISTER_BYTES: readonly number[] = [32, 48, 64];
const LIMITS = { maxDepth: 8, maxItems: 512, maxBytes: MAX_PAYLOAD_BYTES };
const KNOWN: ReadonlySet<CborKey> = new Set(["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"]); // prettier-ignore

export interface AttestationPayload {
  readonly moduleId: string;
  readonly digest: string;
  readonly timestampMs: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly certificate: Uint8Array;
  /** The root first. */
  readonly cabundle: readonly Uint8Array[];
  readonly publicKey: Uint8Array | null;
  readonly userData: Uint8Array | null;
  readonly nonce: Uint8Array | null;
  readonly unknownKeys: readonly string[];
}

/** Byte strings of the result are views of `bytes`. @throws E_EVIDENCE_SIZE, E_EVIDENCE_ENCODING, E_EVIDENCE_PAYLOAD, E_EVIDENCE_TPM */
export function decodeAttestationPayload(bytes: Uint8Array): AttestationPayload {
  if (bytes.length === 0 || bytes.length > MAX_PAYLOAD_BYTES)
    throw new KitError(
      "E_EVIDENCE_SIZE",
      `the payload has ${bytes.length} bytes; 1 to ${MAX_PAYLOAD_BYTES} can be`,
    );
  const map = decodeItem(bytes, LIMITS);
  if (!isMap(map)) throw malformed("is no map");
  if (map.has("nitrotpm_pcrs"))
    throw new KitError("E_EVIDENCE_TPM", "the document has nitrotpm_pcrs: it is of a NitroTPM");
  const cabundle = readList(map, "cabundle");
  return {
    moduleId: readModuleId(map),
    digest: readDigest(map),
    timestampMs: readTimestamp(map),
    pcrs: readRegisters(map),
    certificate: readCertificate("certificate", map.get("certificate")),
    cabundle: cabundle.map((item, index) => readCertificate(`cabundle[${index}]`, item)),
    publicKey: readPublicKey(map),
    userData: readBytes(map, "user_data"),
    nonce: readBytes(map, "nonce"),
    unknownKeys: [...map.keys()].filter((key) => !KNOWN.has(key)).map(String),
  };
}

function isMap(value: CborValue | undefined): value is CborMap {
  return value instanceof Map;
}

function readModuleId(map: CborMap): string {
  const value = map.get("module_id");
  if (typeof value !== "string" || value === "") throw malformed("has no module_id");
  return value;
}

function readDigest(map: CborMap): string {
  const value = map.get("digest");
  if (value === "SHA384") return value;
  throw malformed(`has the digest ${typeof value === "string" ? JSON.stringify(value.slice(0, 40)) : "of no text"}, not "SHA384"`); // prettier-ignore
}

function readTimestamp(map: CborMap): number {
  const value = map.get("timestamp");
  if (typeof value === "number" && value > 0) return value;
  throw malformed("has no timestamp above zero");
}

function readRegisters(map: CborMap): ReadonlyMap<number, Uint8Array> {
  const value = map.get("pcrs");
  if (!isMap(value) || value.size === 0 || value.size > MAX_REGISTERS)
    throw malformed(`has no pcrs of 1 to ${MAX_REGISTERS} registers`);
  const registers = new Map<number, Uint8Array>();
  for (const [index, content] of value) {
    if (typeof index !== "number" || index < 0 || index >= MAX_REGISTERS)
      throw malformed(`has a register ${JSON.stringify(String(index).slice(0, 40))}`);
    if (!(content instanceof Uint8Array) || !REGISTER_BYTES.includes(content.length))
      throw malformed(`has a register ${index} that is not of ${REGISTER_BYTES.join(", ")} bytes`);
    registers.set(index, content);
  }
  return registers;
}

function readList(map: CborMap, key: string): readonly CborValue[] {
  const value = map.get(key);
  if (!Array.isArray(value)) throw malformed(`has no ${key}`);
  if (value.length === 0 || value.length > MAX_CABUNDLE)
    throw malformed(`has ${value.length} certificates in its ${key}; 1 to ${MAX_CABUNDLE} can be`);
  return value;
}

function readCertificate(where: string, value: CborValue | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed(`has no certificate in ${where}`);
  if (value.length === 0 || value.length > MAX_CERTIFICATE_BYTES)
    throw malformed(`has ${value.length} bytes in ${where}; 1 to ${MAX_CERTIFICATE_BYTES} can be`);
  return value;
}

function readPublicKey(map: CborMap): Uint8Array | null {
  const value = readBytes(map, "public_key");
  if (value === null || (value.length > 0 && value.length <= MAX_PUBLIC_KEY_BYTES)) return value;
  throw malformed(`has a public_key of ${value.length} bytes; 1 to ${MAX_PUBLIC_KEY_BYTES} can be`);
}

function readBytes(map: CborMap, key: string): Uint8Array | null {
  const value = map.get(key) ?? null;
  if (value === null || value instanceof Uint8Array) return value;
  throw malformed(`has a ${key} that is no byte string`);
}

function malformed(why: string): KitError {
  return new KitError("E_EVIDENCE_PAYLOAD", `the payload ${why}`);
}
