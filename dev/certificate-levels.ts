/**
 * What each certificate of a chain looks like, as decoded from genuine ones (extensions in this order, "!" is critical):
 *
 *   root       no path length    !basicConstraints subjectKey !keyUsage(sign, certSign, crlSign)
 *   regional   path length 2     !basicConstraints authorityKey subjectKey !keyUsage(sign, certSign, crlSign) crlPoints
 *   zonal      path length 1     the same
 *   instance   path length 0     !basicConstraints !keyUsage(certSign) subjectKey authorityKey
 *   leaf       no authority      !basicConstraints keyUsage(sign, nonRepudiation)
 */
import "reflect-metadata";

import { randomBytes, randomUUID } from "node:crypto";

import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  CRLDistributionPointsExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  type Name,
  SubjectKeyIdentifierExtension,
} from "@peculiar/x509";

import { writeName } from "./certificate-writer.ts";

/** Public keys: of the certificate and of the one above it. */
export interface ChainKeys {
  readonly own: CryptoKey;
  readonly issuer: CryptoKey;
}

export interface CertificateLevel {
  readonly lifeMs: number;
  /** How long before it is made it says that it is valid. */
  readonly backdatedMs: number;
  /** One is made anew when it has less than this left: whatever it signs lives no longer than it does. */
  readonly leftMs: number;
  readonly serialBytes: number;
  readonly subject: (moduleId: string) => Name;
  readonly extensions: (keys: ChainKeys) => Promise<Extension[]>;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const LEAF_LEFT_MS = HOUR_MS / 2;
const REGION = "dev-1";
const ENCLAVES = `${REGION}.development.nitro-enclaves`;
/** Nobody has to ask: AWS says not to look at revocation lists. The name can belong to no one (RFC 2606). */
const REVOCATIONS = "http://crl.development.invalid/crl";
const OWNER = [
  ["O", "development"],
  ["OU", "development"],
] as const;
const PLACE = [["C", "US"], ["ST", "development"], ["L", "development"], ...OWNER] as const;

// Flags are made to be joined.
/* oxlint-disable no-bitwise, typescript/no-unsafe-enum-assignment */
const AUTHORITY_USAGE: KeyUsageFlags =
  KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign;
const LEAF_USAGE: KeyUsageFlags = KeyUsageFlags.digitalSignature | KeyUsageFlags.nonRepudiation;
/* oxlint-enable no-bitwise, typescript/no-unsafe-enum-assignment */

/** Of a root, which lives as long as its owner wants. */
export const ROOT = {
  serialBytes: 16,
  subject: (): Name => writeName([["C", "US"], ...OWNER, ["CN", "development.nitro-enclaves"]]),
  extensions: async (key: CryptoKey): Promise<Extension[]> => [
    new BasicConstraintsExtension(true, undefined, true),
    await SubjectKeyIdentifierExtension.create(key),
    new KeyUsagesExtension(AUTHORITY_USAGE, true),
  ],
} as const;

const REGIONAL: CertificateLevel = {
  lifeMs: 20 * DAY_MS,
  backdatedMs: HOUR_MS,
  leftMs: 6 * DAY_MS,
  serialBytes: 16,
  subject: () => writeName([["C", "US"], ...OWNER, ["CN", `${newId()}.${ENCLAVES}`]]),
  extensions: async (keys) => await authorityExtensions(keys, 2),
};

const ZONAL: CertificateLevel = {
  lifeMs: 6 * DAY_MS,
  backdatedMs: HOUR_MS,
  leftMs: DAY_MS,
  serialBytes: 16,
  subject: () => writeName([["CN", `${newId()}.zonal.${ENCLAVES}`], ["OU", "development"], ["O", "development"], ["C", "US"], ["ST", "development"], ["L", "development"]]), // prettier-ignore
  extensions: async (keys) => await authorityExtensions(keys, 1),
};

const INSTANCE: CertificateLevel = {
  lifeMs: DAY_MS,
  backdatedMs: 0,
  leftMs: 3 * HOUR_MS,
  serialBytes: 20,
  subject: (moduleId) => writeName([...PLACE, ["CN", `${instanceOf(moduleId)}.${ENCLAVES}`]]),
  extensions: async (keys) => [
    new BasicConstraintsExtension(true, 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    await SubjectKeyIdentifierExtension.create(keys.own),
    await AuthorityKeyIdentifierExtension.create(keys.issuer),
  ],
};

const LEAF: CertificateLevel = {
  lifeMs: 3 * HOUR_MS,
  backdatedMs: 3_000,
  leftMs: LEAF_LEFT_MS,
  serialBytes: 16,
  subject: (moduleId) => writeName([...PLACE, ["CN", `${moduleId}.${REGION}.development`]]),
  extensions: async () => [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(LEAF_USAGE, false),
  ],
};

/** Below the root, the leaf last. */
export const LEVELS: readonly CertificateLevel[] = [REGIONAL, ZONAL, INSTANCE, LEAF];

async function authorityExtensions(keys: ChainKeys, pathLength: number): Promise<Extension[]> {
  return [
    new BasicConstraintsExtension(true, pathLength, true),
    await AuthorityKeyIdentifierExtension.create(keys.issuer),
    await SubjectKeyIdentifierExtension.create(keys.own),
    new KeyUsagesExtension(AUTHORITY_USAGE, true),
    new CRLDistributionPointsExtension([`${REVOCATIONS}/${randomUUID()}.crl`]),
  ];
}

function newId(): string {
  return randomBytes(8).toString("hex");
}

/** `i-…` of `i-…-enc…`. */
function instanceOf(moduleId: string): string {
  return moduleId.split("-enc", 1)[0] ?? moduleId;
}
