import { DER_TAG, DerError, readDer } from "../../wire/der/der-reader.ts";
import { DerSequence } from "../../wire/der/der-sequence.ts";

const SCALAR_BYTES = 48;
/** Of P-384: how many points there are, the base point's multiples. */
const ORDER =
  0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n;

/**
 * A signature of a certificate, SEQUENCE { r INTEGER, s INTEGER }, as r || s (96 bytes). The greater of the two values
 * of s that hold for one signature is taken too: it proves the same.
 * @throws DerError
 */
export function toRawSignature(der: Uint8Array): Uint8Array<ArrayBuffer> {
  const pair = new DerSequence(readDer(der), DER_TAG.sequence, "ECDSA signature");
  const [r, s] = [pair.take(DER_TAG.integer).content, pair.take(DER_TAG.integer).content];
  pair.end();
  const raw = new Uint8Array(2 * SCALAR_BYTES);
  writeScalar(r, raw.subarray(0, SCALAR_BYTES));
  writeScalar(s, raw.subarray(SCALAR_BYTES));
  return raw;
}

function writeScalar(integer: Uint8Array, target: Uint8Array): void {
  const isNegative = (integer[0] ?? 0) >= 0x80;
  const magnitude = integer[0] === 0 ? integer.subarray(1) : integer;
  if (isNegative || magnitude.length > SCALAR_BYTES) throw new DerError("a number out of range", 0);
  target.set(magnitude, SCALAR_BYTES - magnitude.length);
  if (!isScalar(target)) throw new DerError("a number out of range", 0);
}

/** Whether both halves of r || s are numbers that a signature can have: 1 to the order, without it. */
export function isRawSignature(signature: Uint8Array): boolean {
  return (
    signature.length === 2 * SCALAR_BYTES &&
    isScalar(signature.subarray(0, SCALAR_BYTES)) &&
    isScalar(signature.subarray(SCALAR_BYTES))
  );
}

function isScalar(bytes: Uint8Array): boolean {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value > 0n && value < ORDER;
}
