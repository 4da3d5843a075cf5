/** What an authentic document must say. Everything that is asked for must hold; what is not asked for is not looked at, but for debug mode and a date in the future. */
import { isSameBytes, toHex } from "../../core/bytes.ts";
import { KitError } from "../../core/errors.ts";
import type { Purpose } from "../../wire/purposes.ts";
import { encodeUserData, readPurpose } from "../user-data.ts";
import type { TrustAnchor } from "./certificate-chain.ts";
import type { AuthenticDocument } from "./document-verifier.ts";
import type { VerificationCrypto } from "./verification-crypto.ts";

export interface AttestationPolicy {
  /** SHA-256 of root certificates (DER), lower-case hex; at least one. */
  readonly roots: readonly string[];
  /** Any of several releases: register to its value in lower-case hex. Registers that are not listed may have any value. */
  readonly measurements?: readonly ReadonlyMap<number, string>[];
  /** Takes documents of enclaves in debug mode. */
  readonly allowDebug?: boolean;
  /** What the caller sent, and nobody else can have sent before. */
  readonly nonce?: Uint8Array;
  readonly maxAgeMs?: number;
  /** How far in the future a document may be; a minute unless told. */
  readonly maxSkewMs?: number;
  /** Holds the document to be made by the toolkit, for this purpose and over this data. */
  readonly purpose?: { readonly name: Purpose; readonly data: Uint8Array };
  /** For documents that the toolkit did not make; not beside `purpose`. */
  readonly userData?: Uint8Array;
  readonly publicKey?: Uint8Array;
}

const SKEW_MS = 60_000;
const SHA256 = /^[0-9a-f]{64}$/;
const REGISTER = /^(?:[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$/;
const MAX_REGISTER = 31;
/** What a Date can say. */
const MAX_TIME_MS = 8.64e15;

/** @throws RangeError */
export function requireAnchor({ roots, atMs }: TrustAnchor): void {
  if (roots.length === 0 || !roots.every((root) => SHA256.test(root)))
    throw new RangeError("roots are the SHA-256 of certificates in lower-case hex, at least one");
  if (!(Math.abs(atMs) <= MAX_TIME_MS)) throw new RangeError(`${atMs} is no time`);
}

/** A policy that would hold for everything, or for nothing, is a mistake. @throws RangeError */
export function requirePolicy(policy: AttestationPolicy): void {
  const { measurements, nonce, maxAgeMs, maxSkewMs, purpose, userData } = policy;
  if (measurements !== undefined && (measurements.length === 0 || !measurements.every(isRelease)))
    throw new RangeError("measurements are releases, and a release registers 0 to 31 with lower-case hex");
  if (nonce?.length === 0) throw new RangeError("a nonce of no bytes proves nothing");
  for (const durationMs of [maxAgeMs, maxSkewMs])
    if (durationMs !== undefined && !(durationMs >= 0)) throw new RangeError(`${durationMs} is no duration`);
  if (purpose !== undefined && userData !== undefined)
    throw new RangeError("user data follow from the purpose; ask for one of the two");
}

function isRelease(release: ReadonlyMap<number, string>): boolean {
  const isRegister = ([index, value]: readonly [number, string]): boolean =>
    Number.isInteger(index) && index >= 0 && index <= MAX_REGISTER && REGISTER.test(value);
  return release.size > 0 && [...release].every(isRegister);
}

/**
 * @param atMs as the document was verified
 * @throws E_UNMET_*, for the first that does not hold; RangeError as requirePolicy
 */
export async function checkPolicy(
  document: AuthenticDocument,
  policy: AttestationPolicy,
  atMs: number,
  crypto: Pick<VerificationCrypto, "sha256">,
): Promise<void> {
  requirePolicy(policy);
  requireNoDebug(document, policy);
  requireMeasurements(document, policy);
  requireNonce(document, policy);
  requireAge(document, policy, atMs);
  await requirePurpose(document, policy, crypto);
  requireUserData(document, policy);
  requirePublicKey(document, policy);
}

function requireNoDebug({ isDebug }: AuthenticDocument, { allowDebug = false }: AttestationPolicy): void {
  if (isDebug && !allowDebug)
    throw new KitError(
      "E_UNMET_DEBUG",
      "a register of the image (PCR0, PCR1, PCR2) is zero or missing: the enclave is in debug mode",
    );
}

function requireMeasurements({ pcrs }: AuthenticDocument, { measurements }: AttestationPolicy): void {
  if (measurements === undefined) return;
  const found = new Map([...pcrs].map(([index, value]) => [index, toHex(value)]));
  const differences = measurements.map((release) => firstDifference(release, found));
  if (differences.includes(null)) return;
  const releases = measurements.length === 1 ? "" : ` (nor of ${measurements.length - 1} other releases)`;
  throw new KitError("E_UNMET_MEASUREMENTS", `${differences[0]}${releases}`, {
    details: {
      found: Object.fromEntries(found),
      expected: measurements.map((release) => Object.fromEntries(release)),
    },
  });
}

function firstDifference(
  release: ReadonlyMap<number, string>,
  found: ReadonlyMap<number, string>,
): string | null {
  for (const [index, expected] of release) {
    const actual = found.get(index);
    if (actual !== expected) return `PCR${index}: expected ${expected}, found ${actual ?? "none"}`;
  }
  return null;
}

function requireNonce(document: AuthenticDocument, { nonce }: AttestationPolicy): void {
  if (nonce !== undefined) requireSame("E_UNMET_NONCE", ["nonce", document.nonce, nonce]);
}

function requireAge(
  { timestampMs }: AuthenticDocument,
  { maxAgeMs, maxSkewMs = SKEW_MS }: AttestationPolicy,
  atMs: number,
): void {
  const ageMs = atMs - timestampMs;
  const made = `the document is of ${describeTime(timestampMs)}, `;
  const details = { timestampMs, atMs };
  if (-ageMs > maxSkewMs)
    throw new KitError("E_UNMET_AGE", `${made}${-ageMs} ms after ${describeTime(atMs)}; at most ${maxSkewMs} ms are allowed`, { details }); // prettier-ignore
  if (maxAgeMs !== undefined && ageMs > maxAgeMs)
    throw new KitError("E_UNMET_AGE", `${made}${ageMs} ms before ${describeTime(atMs)}; at most ${maxAgeMs} ms are allowed`, { details }); // prettier-ignore
}

/** Documents may have a time that no Date has. */
function describeTime(timeMs: number): string {
  return Math.abs(timeMs) <= MAX_TIME_MS ? new Date(timeMs).toISOString() : `${timeMs} ms`;
}

async function requirePurpose(
  { userData }: AuthenticDocument,
  { purpose }: AttestationPolicy,
  { sha256 }: Pick<VerificationCrypto, "sha256">,
): Promise<void> {
  if (purpose === undefined) return;
  const found = userData === null ? null : readPurpose(userData);
  if (userData === null || found !== purpose.name)
    throw new KitError("E_UNMET_PURPOSE", `expected a document for the purpose ${purpose.name}, found one for ${found ?? "none"}`); // prettier-ignore
  if (!isSameBytes(userData, await encodeUserData(purpose.name, purpose.data, sha256)))
    throw new KitError(
      "E_UNMET_PURPOSE",
      `the document is for the purpose ${purpose.name}, but over other data`,
    );
}

function requireUserData(document: AuthenticDocument, { userData }: AttestationPolicy): void {
  if (userData !== undefined) requireSame("E_UNMET_USER_DATA", ["user data", document.userData, userData]);
}

function requirePublicKey(document: AuthenticDocument, { publicKey }: AttestationPolicy): void {
  if (publicKey !== undefined)
    requireSame("E_UNMET_PUBLIC_KEY", ["public key", document.publicKey, publicKey]);
}

function requireSame(
  code: "E_UNMET_NONCE" | "E_UNMET_USER_DATA" | "E_UNMET_PUBLIC_KEY",
  [what, found, expected]: readonly [what: string, found: Uint8Array | null, expected: Uint8Array],
): void {
  if (found !== null && isSameBytes(found, expected)) return;
  throw new KitError(code, `${what}: expected ${describeBytes(expected)}, found ${describeBytes(found)}`);
}

function describeBytes(bytes: Uint8Array | null): string {
  if (bytes === null) return "none";
  return bytes.length <= 64 ? toHex(bytes) : `${toHex(bytes.subarray(0, 64))}... (${bytes.length} bytes)`;
}
