/** An authority of AWS's shape in memory, every part of whose certificates and documents can be made wrong one at a time. */
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";

import { encodeCbor } from "../../../wire/cbor/cbor-encoder.ts";
import type { CborValue } from "../../../wire/cbor/cbor-value.ts";
import {
  authority,
  bitString,
  commonName,
  der,
  hex,
  integer,
  MAY_SIGN_CERTIFICATES,
  MAY_SIGN_DATA,
  NO_AUTHORITY,
  sequence,
  utcTime,
} from "./der-writer.ts";

export const AT_MS = Date.UTC(2026, 0, 15, 12);
const HOUR_MS = 3_600_000;
const ECDSA_WITH_SHA384 = hex("300a06082a8648ce3d040303");
const LEVELS = ["root", "regional", "zonal", "instance", "leaf"] as const;
export type Level = (typeof LEVELS)[number];

/** DER of the parts of a certificate; what is not given is right. */
export interface CertificateParts {
  readonly version?: Uint8Array;
  readonly serial?: Uint8Array;
  readonly innerAlgorithm?: Uint8Array;
  readonly algorithm?: Uint8Array;
  readonly issuer?: Uint8Array;
  readonly subject?: Uint8Array;
  readonly notBefore?: Uint8Array;
  readonly notAfter?: Uint8Array;
  readonly spki?: Uint8Array;
  readonly extensions?: readonly Uint8Array[];
  /** [3] and all. */
  readonly extensionsField?: Uint8Array;
  /** Stands before the extensions. */
  readonly uniqueId?: Uint8Array;
  /** Content of the bit string. */
  readonly signature?: (genuine: Buffer) => Uint8Array;
  readonly signedBy?: KeyObject;
  readonly whole?: (genuine: Buffer) => Uint8Array;
}

const EXTENSIONS: Readonly<Record<Level, readonly Uint8Array[]>> = {
  root: [authority(), MAY_SIGN_CERTIFICATES],
  regional: [authority(2), MAY_SIGN_CERTIFICATES],
  zonal: [authority(1), MAY_SIGN_CERTIFICATES],
  instance: [authority(0), MAY_SIGN_CERTIFICATES],
  leaf: [NO_AUTHORITY, MAY_SIGN_DATA],
};
const LIFE_MS: Readonly<Record<Level, number>> = {
  root: 20 * 365 * 24 * HOUR_MS,
  regional: 20 * 24 * HOUR_MS,
  zonal: 6 * 24 * HOUR_MS,
  instance: 24 * HOUR_MS,
  leaf: 3 * HOUR_MS,
};

export interface DocumentParts {
  /** The root first, the leaf last. */
  readonly chain?: readonly Uint8Array[];
  readonly entries?: Readonly<Record<string, CborValue>>;
  readonly without?: readonly string[];
  readonly payload?: Uint8Array;
  readonly protectedHeader?: Uint8Array;
  readonly unprotected?: CborValue;
  readonly signedBy?: KeyObject;
  readonly signature?: (genuine: Uint8Array) => Uint8Array;
}

export class TestAuthority {
  readonly keys: Readonly<Record<Level, { readonly publicKey: KeyObject; readonly privateKey: KeyObject }>>;

  constructor() {
    const makeKeys = () => generateKeyPairSync("ec", { namedCurve: "P-384" });
    this.keys = {
      root: makeKeys(),
      regional: makeKeys(),
      zonal: makeKeys(),
      instance: makeKeys(),
      leaf: makeKeys(),
    };
  }

  /** The root first, the leaf last. Some levels may be left out: their neighbours then fit together. */
  chain(
    parts: Partial<Record<Level, CertificateParts>> = {},
    levels: readonly Level[] = LEVELS,
  ): readonly Uint8Array[] {
    return levels.map((level, index) => this.certificate(level, levels[index - 1] ?? "root", parts[level]));
  }

  certificate(level: Level, issuer: Level, parts: CertificateParts = {}): Uint8Array {
    const body = this.#body(level, issuer, parts);
    const genuine = sign("sha384", body, parts.signedBy ?? this.keys[issuer].privateKey);
    const signature = bitString(parts.signature?.(genuine) ?? genuine);
    const whole = sequence(body, parts.algorithm ?? ECDSA_WITH_SHA384, signature);
    return new Uint8Array(parts.whole?.(whole) ?? whole);
  }

  #body(level: Level, issuer: Level, parts: CertificateParts): Buffer {
    return sequence(
      parts.version ?? hex("a003020102"),
      parts.serial ?? integer("00f1e2d3c4b5a69788"),
      parts.innerAlgorithm ?? ECDSA_WITH_SHA384,
      parts.issuer ?? commonName(`test ${issuer}`),
      writeValidity(level, parts),
      parts.subject ?? commonName(`test ${level}`),
      parts.spki ?? this.spki(level),
      ...(parts.uniqueId === undefined ? [] : [parts.uniqueId]),
      parts.extensionsField ?? der(0xa3, sequence(...(parts.extensions ?? EXTENSIONS[level]))),
    );
  }

  spki(level: Level): Buffer {
    return this.keys[level].publicKey.export({ type: "spki", format: "der" });
  }

  document(parts: DocumentParts = {}): Buffer {
    const payload = parts.payload ?? encodeCbor(this.payload(parts));
    const header = parts.protectedHeader ?? hex("a1013822");
    return encodeCbor([header, parts.unprotected ?? new Map(), payload, this.#sign(header, payload, parts)]);
  }

  payload({ chain = this.chain(), entries = {}, without = [] }: DocumentParts = {}): Map<string, CborValue> {
    const map = new Map<string, CborValue>(
      Object.entries({
        module_id: "i-0123456789abcdef0-enc0123456789abcdef",
        digest: "SHA384",
        timestamp: AT_MS - 1000,
        pcrs: registers(),
        certificate: chain.at(-1) ?? null,
        cabundle: chain.slice(0, -1),
        public_key: null,
        user_data: null,
        nonce: null,
        ...entries,
      }),
    );
    for (const key of without) map.delete(key);
    return map;
  }

  #sign(header: Uint8Array, payload: Uint8Array, { signedBy, signature }: DocumentParts): Uint8Array {
    const key = signedBy ?? this.keys.leaf.privateKey;
    const bytes = encodeCbor(["Signature1", header, new Uint8Array(), payload]);
    const genuine = sign("sha384", bytes, { key, dsaEncoding: "ieee-p1363" });
    return signature?.(genuine) ?? genuine;
  }
}

/** As after boot: 0, 1, 2 and 4 of the image and the instance, the others zero. */
export function registers(changes: Readonly<Record<number, Uint8Array>> = {}): Map<number, Uint8Array> {
  const values = Array.from({ length: 16 }, (_item, index): [number, Uint8Array] => [
    index,
    new Uint8Array(48).fill([0, 1, 2, 4].includes(index) ? 0xa0 + index : 0),
  ]);
  return new Map([
    ...values,
    ...Object.entries(changes).map(([index, value]) => [Number(index), value] as const),
  ]);
}

export function rootOf(chain: readonly Uint8Array[]): string {
  return createHash("sha256")
    .update(chain[0] ?? new Uint8Array())
    .digest("hex");
}

function writeValidity(level: Level, { notBefore, notAfter }: CertificateParts): Buffer {
  const startMs = AT_MS - HOUR_MS;
  return sequence(notBefore ?? utcTime(startMs), notAfter ?? utcTime(startMs + LIFE_MS[level]));
}
