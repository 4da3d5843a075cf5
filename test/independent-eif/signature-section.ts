/**
 * The signature section: CBOR, an array of maps {signing_certificate, signature}, both as arrays of integers. The
 * first map's signature is an untagged COSE_Sign1 over {register_index: 0, register_value: [48 integers]}.
 *
 * The decoder below knows only what this section uses: definite lengths, shortest forms, no tags.
 */
import { verify, X509Certificate } from "node:crypto";

type CborMap = Map<string | number, CborValue>;
type CborValue = number | string | Buffer | readonly CborValue[] | CborMap;

export interface IndependentSignature {
  readonly certificatePem: string;
  /** DER of the certificate: what PCR8 measures. */
  readonly certificateDer: Buffer;
  readonly algorithm: "ES256" | "ES384" | "ES512";
  /** Lower-case hex of the PCR0 that was signed. */
  readonly payloadPcr0: string;
  /** Whether the certificate's key made the signature. Dates and PCR0 are not looked at. */
  readonly coseVerifies: boolean;
}

const ALGORITHMS = new Map([
  [-7, { name: "ES256", hash: "sha256", curve: "prime256v1", signatureBytes: 64 }],
  [-35, { name: "ES384", hash: "sha384", curve: "secp384r1", signatureBytes: 96 }],
  [-36, { name: "ES512", hash: "sha512", curve: "secp521r1", signatureBytes: 132 }],
] as const);

export function readSignatureSection(section: Buffer): IndependentSignature {
  const [first] = asArray(decodeWhole(section), "the signature section");
  const entry = asMap(first, "the first signature", ["signing_certificate", "signature"]);
  const certificatePem = asByteList(entry.get("signing_certificate"), "signing_certificate").toString("utf8");
  const certificate = new X509Certificate(certificatePem);
  const cose = asByteList(entry.get("signature"), "signature");
  const [protectedBytes, unprotected, payload, signature, ...more] = asArray(decodeWhole(cose), "COSE_Sign1");
  if (more.length > 0) throw new Error("COSE_Sign1 has more than four elements");
  if (asMap(unprotected, "the unprotected header", []).size !== 0)
    throw new Error("there is an unprotected header");
  const algorithm = readAlgorithm(asBytes(protectedBytes, "the protected header"));
  const curve = certificate.publicKey.asymmetricKeyDetails?.namedCurve;
  if (curve !== algorithm.curve) throw new Error(`${algorithm.name} is used with a key on ${String(curve)}`);
  const raw = asBytes(signature, "the signature");
  if (raw.length !== algorithm.signatureBytes)
    throw new Error(`an ${algorithm.name} signature has ${raw.length} bytes`);
  const signed = signedBytes(
    asBytes(protectedBytes, "the protected header"),
    asBytes(payload, "the payload"),
  );
  return {
    certificatePem,
    certificateDer: certificate.raw,
    algorithm: algorithm.name,
    payloadPcr0: readPayload(asBytes(payload, "the payload")),
    coseVerifies: verify(
      algorithm.hash,
      signed,
      { key: certificate.publicKey, dsaEncoding: "ieee-p1363" },
      raw,
    ),
  };
}

function readAlgorithm(protectedBytes: Buffer) {
  const number = asMap(decodeWhole(protectedBytes), "the protected header", [1]).get(1);
  const entry = [...ALGORITHMS].find(([each]) => each === number);
  if (entry === undefined) throw new Error("the algorithm is not ES256, ES384 or ES512");
  return entry[1];
}

function readPayload(payload: Buffer): string {
  const map = asMap(decodeWhole(payload), "the payload", ["register_index", "register_value"]);
  if (map.get("register_index") !== 0) throw new Error("the signature is not about PCR0");
  const value = asByteList(map.get("register_value"), "register_value");
  if (value.length !== 48) throw new Error(`register_value has ${value.length} bytes`);
  return value.toString("hex");
}

/** ["Signature1", protected, h'', payload]: what COSE signs. */
function signedBytes(protectedBytes: Buffer, payload: Buffer): Buffer {
  const context = Buffer.from("Signature1");
  return Buffer.concat([
    Buffer.from([0x84, 0x60 + context.length]),
    context,
    byteString(protectedBytes),
    byteString(Buffer.alloc(0)),
    byteString(payload),
  ]);
}

function byteString(bytes: Buffer): Buffer {
  if (bytes.length < 24) return Buffer.concat([Buffer.from([0x40 + bytes.length]), bytes]);
  if (bytes.length < 256) return Buffer.concat([Buffer.from([0x58, bytes.length]), bytes]);
  return Buffer.concat([Buffer.from([0x59, bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

function asArray(value: CborValue | undefined, what: string): readonly CborValue[] {
  if (!Array.isArray(value) || value.length === 0) throw new Error(`${what} is not an array with elements`);
  return value;
}

function asMap(value: CborValue | undefined, what: string, keys: readonly (string | number)[]): CborMap {
  if (!(value instanceof Map)) throw new Error(`${what} is not a map`);
  if (keys.join() !== [...value.keys()].join())
    throw new Error(`${what} has the keys ${[...value.keys()].join()}`);
  return value;
}

function asBytes(value: CborValue | undefined, what: string): Buffer {
  if (!Buffer.isBuffer(value)) throw new Error(`${what} is not a byte string`);
  return value;
}

function asByteList(value: CborValue | undefined, what: string): Buffer {
  return Buffer.from(
    asArray(value, what).map((each) => {
      if (typeof each !== "number" || each < 0 || each > 255)
        throw new Error(`${what} holds something that is no byte`);
      return each;
    }),
  );
}

function decodeWhole(bytes: Buffer): CborValue {
  const reader = new CborReader(bytes);
  const value = reader.value(0);
  if (reader.position !== bytes.length)
    throw new Error(`${bytes.length - reader.position} bytes follow a CBOR value`);
  return value;
}

const LENGTH_FORMS = [
  { bytes: 1, least: 24 },
  { bytes: 2, least: 0x100 },
  { bytes: 4, least: 0x10000 },
];

class CborReader {
  position = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  value(depth: number): CborValue {
    if (depth > 4) throw new Error("CBOR is nested too deeply");
    const start = this.#take(1).readUInt8(0);
    const argument = this.#argument(start & 31);
    switch (start >> 5) {
      case 0:
        return argument;
      case 1:
        return -1 - argument;
      case 2:
        return this.#take(argument);
      case 3:
        return this.#take(argument).toString("utf8");
      case 4:
        return this.#array(argument, depth);
      case 5:
        return this.#map(argument, depth);
      default:
        throw new Error(`CBOR type ${start >> 5} has no place in a signature`);
    }
  }

  #array(length: number, depth: number): CborValue[] {
    if (length > this.#bytes.length)
      throw new Error(`a CBOR array of ${length} in ${this.#bytes.length} bytes`);
    return Array.from({ length }, () => this.value(depth + 1));
  }

  #map(size: number, depth: number): CborMap {
    const map: CborMap = new Map();
    for (let index = 0; index < size; index++) {
      const key = this.value(depth + 1);
      if (typeof key !== "string" && typeof key !== "number") throw new Error("a CBOR map has an odd key");
      if (map.has(key)) throw new Error(`the CBOR key ${key} is there twice`);
      map.set(key, this.value(depth + 1));
    }
    return map;
  }

  #argument(short: number): number {
    if (short < 24) return short;
    const form = LENGTH_FORMS[short - 24];
    if (form === undefined) throw new Error(`CBOR length form ${short}`);
    const argument = this.#take(form.bytes).readUIntBE(0, form.bytes);
    if (argument < form.least) throw new Error(`${argument} is not in its shortest CBOR form`);
    return argument;
  }

  #take(count: number): Buffer {
    const end = this.position + count;
    if (end > this.#bytes.length) throw new Error("CBOR ends too early");
    const taken = this.#bytes.subarray(this.position, end);
    this.position = end;
    return taken;
  }
}
