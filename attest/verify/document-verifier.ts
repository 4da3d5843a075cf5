/**
 * Verifies attestation documents. First that a document is authentic (E_EVIDENCE_*), and only then that it says what was
 * asked for (E_UNMET_*): before the signature held, nothing in it means anything.
 */
import { KitError } from "../../core/errors.ts";
import {
  type AttestationPayload,
  decodeAttestationPayload,
  MAX_DOCUMENT_BYTES,
} from "../../wire/attestation-document.ts";
import {
  COSE_ES384,
  type CoseSign1,
  decodeCoseSign1,
  encodeSignedBytes,
} from "../../wire/cose/cose-sign1.ts";
import { type AttestationPolicy, checkPolicy, requireAnchor, requirePolicy } from "./attestation-policy.ts";
import type { ChainLink, TrustAnchor, VerifiedChain } from "./certificate-chain.ts";
import { isRawSignature } from "./ecdsa-signature.ts";
import type { VerificationCrypto } from "./verification-crypto.ts";
import { VerifiedChains } from "./verified-chains.ts";

const AUTHENTIC: unique symbol = Symbol("authentic");

/** What a document says whose signature was verified; nothing else can make one. The bytes are copies. */
export interface AuthenticDocument {
  readonly [AUTHENTIC]: true;
  readonly moduleId: string;
  readonly digest: string;
  readonly timestampMs: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly publicKey: Uint8Array | null;
  readonly userData: Uint8Array | null;
  readonly nonce: Uint8Array | null;
  /** Keys that are not known; their values are not kept. */
  readonly unknownKeys: readonly string[];
  /** One of the registers 0, 1 and 2 is zero, or absent: a debug enclave, which measures nothing. */
  readonly isDebug: boolean;
  readonly rootSha256: string;
  /** The root first. */
  readonly chain: readonly ChainLink[];
}

export interface DocumentVerifierOptions {
  /** Chains of certificates to remember, about 2 KiB each. */
  readonly maxCachedChains?: number;
}

const MAX_CACHED_CHAINS = 256;
/** What a debug enclave has zeros in. */
const IMAGE_REGISTERS = [0, 1, 2];

/** Any number of documents, also at once. */
export class DocumentVerifier {
  readonly #crypto: VerificationCrypto;
  readonly #chains: VerifiedChains;

  constructor(
    crypto: VerificationCrypto,
    { maxCachedChains = MAX_CACHED_CHAINS }: DocumentVerifierOptions = {},
  ) {
    this.#crypto = crypto;
    this.#chains = new VerifiedChains(crypto, maxCachedChains);
  }

  /**
   * Verifies a document and what it says.
   * @param document COSE_Sign1, tagged or not, at most MAX_DOCUMENT_BYTES
   * @param atMs now; or, to look back (an audit), the time when the document came
   * @throws E_EVIDENCE_*, E_UNMET_*; RangeError for a policy that asks for nothing or cannot be met
   */
  async verify(document: Uint8Array, policy: AttestationPolicy, atMs: number): Promise<AuthenticDocument> {
    requirePolicy(policy);
    const authentic = await this.authenticate(document, { roots: policy.roots, atMs });
    await checkPolicy(authentic, policy, atMs, this.#crypto);
    return authentic;
  }

  /**
   * Verifies that an NSM under one of the roots made the document, and that its certificates are valid at the time.
   * Which enclave asked for it, when, and why is not looked at.
   * @throws E_EVIDENCE_*; RangeError for a root that is no digest or a time that is none
   */
  async authenticate(document: Uint8Array, anchor: TrustAnchor): Promise<AuthenticDocument> {
    requireAnchor(anchor);
    const message = decodeCoseSign1(copyOf(document), MAX_DOCUMENT_BYTES);
    requireEs384(message);
    const payload = decodeAttestationPayload(message.payload);
    const chain = await this.#chains.verify([...payload.cabundle, payload.certificate], anchor);
    await this.#requireSignature(message, chain.leafKey);
    return toAuthentic(payload, chain);
  }

  async #requireSignature(message: CoseSign1, key: Uint8Array): Promise<void> {
    const { protectedHeader, payload, signature } = message;
    const isTrue =
      isRawSignature(signature) &&
      (await this.#crypto.verifyEs384(key, signature, encodeSignedBytes(protectedHeader, payload)));
    if (!isTrue)
      throw new KitError(
        "E_EVIDENCE_SIGNATURE",
        "the key of the leaf certificate did not sign this document",
      );
  }
}

/** The caller may go on using his buffer. What is too large will be refused, and is not copied. */
function copyOf(document: Uint8Array): Uint8Array {
  return document.length > MAX_DOCUMENT_BYTES ? document : new Uint8Array(document);
}

function requireEs384({ algorithm }: CoseSign1): void {
  if (algorithm === COSE_ES384) return;
  // Text of nobody knows whom.
  const name = typeof algorithm === "string" ? JSON.stringify(algorithm.slice(0, 40)) : algorithm;
  throw new KitError("E_EVIDENCE_ALGORITHM", `signed by algorithm ${name}, not ${COSE_ES384} (ES384)`);
}

function toAuthentic(payload: AttestationPayload, chain: VerifiedChain): AuthenticDocument {
  const { certificate: _leaf, cabundle: _authorities, ...claims } = payload;
  const isDebug = IMAGE_REGISTERS.some((index) => isZero(claims.pcrs.get(index)));
  return { [AUTHENTIC]: true, ...claims, isDebug, rootSha256: chain.rootSha256, chain: chain.links };
}

function isZero(register: Uint8Array | undefined): boolean {
  return register === undefined || register.every((byte) => byte === 0);
}
