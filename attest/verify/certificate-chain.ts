/** Certificates that vouch for one another, from a root that is trusted by its digest down to the key that signs documents. */
import { isSameBytes, toHex } from "../../core/bytes.ts";
import { KitError } from "../../core/errors.ts";
import { type Certificate, describeName, readCertificate } from "./certificate.ts";
import type { VerificationCrypto } from "./verification-crypto.ts";

export interface TrustAnchor {
  /** SHA-256 of root certificates (DER), lower-case hex; at least one. */
  readonly roots: readonly string[];
  /** When the certificates must be valid, milliseconds since the epoch. */
  readonly atMs: number;
}

export interface ChainLink {
  /** `CN=..., O=...` */
  readonly subject: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Holds nothing of the document that it came in. */
export interface VerifiedChain {
  readonly rootSha256: string;
  /** The root first. */
  readonly links: readonly ChainLink[];
  /** SPKI of the last one. */
  readonly leafKey: Uint8Array;
}

/**
 * @param certificates DER; the root first, the leaf last; at least two
 * @throws E_EVIDENCE_ROOT, E_EVIDENCE_CERTIFICATE, E_EVIDENCE_CHAIN, E_EVIDENCE_VALIDITY
 */
export async function verifyChain(
  certificates: readonly Uint8Array[],
  { roots, atMs }: TrustAnchor,
  crypto: VerificationCrypto,
): Promise<VerifiedChain> {
  const [root = new Uint8Array()] = certificates;
  const rootSha256 = toHex(await crypto.sha256(root));
  requireTrustedRoot(rootSha256, roots);
  const chain = certificates.map((der, index) => readCertificate(der, nameOf(index, certificates.length)));
  requireAuthorities(chain.slice(0, -1), chain.length);
  const leaf = requireLeaf(chain);
  requireIssuers(chain);
  requireValidity(chain, atMs);
  await requireSignatures(chain, crypto);
  const links = Object.freeze(chain.map(describeLink));
  return { rootSha256, links, leafKey: new Uint8Array(leaf.spki) };
}

/** A certificate is never trusted for being in the document. @throws E_EVIDENCE_ROOT */
export function requireTrustedRoot(rootSha256: string, roots: readonly string[]): void {
  if (roots.includes(rootSha256)) return;
  throw new KitError(
    "E_EVIDENCE_ROOT",
    `the root certificate is sha256:${rootSha256}; trusted: ${roots.map((root) => `sha256:${root}`).join(", ")}`,
    { details: { root: rootSha256, trusted: roots } },
  );
}

/** @throws E_EVIDENCE_VALIDITY */
export function requireValidity(
  chain: readonly Pick<ChainLink, "notBeforeMs" | "notAfterMs">[],
  atMs: number,
): void {
  for (const [index, { notBeforeMs, notAfterMs }] of chain.entries()) {
    if (notBeforeMs <= atMs && atMs <= notAfterMs) continue;
    const [from, to, at] = [notBeforeMs, notAfterMs, atMs].map((timeMs) => new Date(timeMs).toISOString());
    throw new KitError(
      "E_EVIDENCE_VALIDITY",
      `${nameOf(index, chain.length)} is valid from ${from} to ${to}, not at ${at}`,
      { details: { certificate: index, notBeforeMs, notAfterMs, atMs } },
    );
  }
}

function requireAuthorities(authorities: readonly Certificate[], count: number): void {
  for (const [index, { isAuthority, maxAuthoritiesBelow, maySignCertificates }] of authorities.entries()) {
    const where = nameOf(index, count);
    const below = authorities.length - 1 - index;
    if (!isAuthority) throw broken(`${where} is not of an authority`);
    if (!maySignCertificates) throw broken(`the key of ${where} may not sign certificates`);
    if (maxAuthoritiesBelow !== null && below > maxAuthoritiesBelow)
      throw broken(`${where} allows ${maxAuthoritiesBelow} authorities below it, and there are ${below}`);
  }
}

function requireLeaf(chain: readonly Certificate[]): Certificate {
  const leaf = chain.at(-1);
  if (leaf === undefined || chain.length < 2) throw broken("there are no certificates");
  if (leaf.isAuthority) throw broken("the leaf certificate is of an authority");
  if (!leaf.maySignData) throw broken("the key of the leaf certificate may not sign data");
  return leaf;
}

function requireIssuers(chain: readonly Certificate[]): void {
  for (const [index, { issuer }] of chain.entries()) {
    const parent = chain[index - 1];
    if (parent !== undefined && !isSameBytes(parent.subject, issuer))
      throw broken(`${nameOf(index, chain.length)} does not name the one before it as its issuer`);
  }
}

/** The root's own signature says nothing that its digest does not. */
async function requireSignatures(chain: readonly Certificate[], crypto: VerificationCrypto): Promise<void> {
  for (const [index, { signature, signedBytes }] of chain.entries()) {
    const parent = chain[index - 1];
    if (parent !== undefined && !(await crypto.verifyEs384(parent.spki, signature, signedBytes)))
      throw broken(`${nameOf(index, chain.length)} is not signed by the one before it`);
  }
}

/** Frozen: callers are told it, and the next document is judged by it. */
function describeLink({ subject, notBeforeMs, notAfterMs }: Certificate, index: number): ChainLink {
  return Object.freeze({ subject: describeName(subject, `certificate ${index}`), notBeforeMs, notAfterMs });
}

function nameOf(index: number, count: number): string {
  if (index === 0) return "the root certificate";
  return index === count - 1 ? "the leaf certificate" : `certificate ${index} (cabundle[${index}])`;
}

function broken(why: string): KitError {
  return new KitError("E_EVIDENCE_CHAIN", why);
}
