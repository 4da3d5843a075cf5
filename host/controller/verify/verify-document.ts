/** `pipeline verify`: what a document proves, and what nobody asked it. */
import { type AttestationPolicy, checkPolicy } from "../../../attest/verify/attestation-policy.ts";
import { type AuthenticDocument, DocumentVerifier } from "../../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../../attest/verify/node-crypto.ts";
import { KitError } from "../../../core/errors.ts";
import type { TrustedRoot } from "./trusted-root.ts";

export interface VerifyRequest {
  readonly root: TrustedRoot;
  readonly atMs: number;
  /** The time is now; otherwise somebody looks back. */
  readonly isNow: boolean;
  /** Without roots. */
  readonly wanted: Omit<AttestationPolicy, "roots">;
}

export interface Verification {
  readonly document: AuthenticDocument;
  /** Sentences, in the order of the checks. */
  readonly proven: readonly string[];
  readonly notProven: readonly string[];
  /** What the document does not meet; null: it meets everything. */
  readonly refusal: KitError | null;
}

/** @throws E_EVIDENCE_* */
export async function verifyDocument(bytes: Uint8Array, request: VerifyRequest): Promise<Verification> {
  const { root, atMs, wanted } = request;
  const crypto = createNodeCrypto();
  const policy = { ...wanted, roots: [root.sha256] };
  const document = await new DocumentVerifier(crypto).authenticate(bytes, { roots: policy.roots, atMs });
  const refusal = await refusalOf(checkPolicy(document, policy, atMs, crypto));
  const met = refusal === null ? describeMet(wanted) : [];
  return {
    document,
    proven: [...describeAuthentic(document, request), ...met],
    notProven: describeOpen(document, request),
    refusal,
  };
}

async function refusalOf(check: Promise<void>): Promise<KitError | null> {
  try {
    await check;
    return null;
  } catch (error) {
    if (error instanceof KitError) return error;
    throw error;
  }
}

function describeAuthentic({ chain }: AuthenticDocument, { root, atMs }: VerifyRequest): string[] {
  const until = new Date(Math.min(...chain.map(({ notAfterMs }) => notAfterMs))).toISOString();
  return [
    root.isAws
      ? "a Nitro Security Module of AWS signed the document"
      : `a module below the root sha256:${root.sha256} signed the document`,
    `its certificates are valid at ${new Date(atMs).toISOString()} (until ${until})`,
  ];
}

function describeMet({
  measurements,
  nonce,
  maxAgeMs,
  purpose,
  allowDebug,
}: VerifyRequest["wanted"]): string[] {
  const registers = measurements?.flatMap((release) => [...release.keys()].map((index) => `PCR${index}`));
  return [
    ...(allowDebug === true ? [] : ["the enclave is not in debug mode"]),
    ...(registers === undefined ? [] : [`the registers are those asked for: ${registers.join(", ")}`]),
    ...(nonce === undefined ? [] : ["the document repeats the nonce"]),
    ...(maxAgeMs === undefined ? [] : [`the document is at most ${maxAgeMs / 1000} s old`]),
    ...(purpose === undefined ? [] : [`it was made for the purpose ${purpose.name} over the data given`]),
  ];
}

function describeOpen(document: AuthenticDocument, request: VerifyRequest): string[] {
  const { measurements, allowDebug } = request.wanted;
  return [
    ...describeOpenOrigin(request),
    ...(measurements === undefined ? ["which image runs: no register was compared (--pcr, --image)"] : []),
    ...(allowDebug === true && document.isDebug ? ["anything about its memory: it is in debug mode, and that was allowed"] : []), // prettier-ignore
    ...describeOpenContents(document, request),
  ];
}

function describeOpenOrigin({ root, isNow, atMs }: VerifyRequest): string[] {
  const at = new Date(atMs).toISOString();
  return [
    ...(isNow ? [] : [`anything about now: this is an audit, as of ${at}`]),
    ...(root.isAws ? [] : ["that there is hardware: the root is not that of AWS"]),
  ];
}

function describeOpenContents(document: AuthenticDocument, { wanted }: VerifyRequest): string[] {
  const { nonce, maxAgeMs, purpose } = wanted;
  const hasData = document.userData !== null || document.publicKey !== null;
  const isAnyAge = nonce === undefined && maxAgeMs === undefined;
  return [
    ...(nonce === undefined ? ["that it answers you: no nonce was asked for (--nonce)"] : []),
    ...(isAnyAge ? ["that it is fresh: any age was allowed (--max-age)"] : []),
    ...(purpose === undefined && hasData ? ["what its user data and public key are for: they were not compared (--purpose)"] : []), // prettier-ignore
    ...(document.unknownKeys.length > 0 ? ["what its unknown keys mean"] : []),
  ];
}
