import { joinBytes, toHex } from "../../core/bytes.ts";
import {
  requireTrustedRoot,
  requireValidity,
  type TrustAnchor,
  type VerifiedChain,
  verifyChain,
} from "./certificate-chain.ts";
import { RecentMap } from "./recent-map.ts";
import type { VerificationCrypto } from "./verification-crypto.ts";

/**
 * Chains that were verified, by the SHA-256 of all their bytes: signatures that held once hold for ever. Root and time
 * are looked at every time.
 */
export class VerifiedChains {
  readonly #crypto: VerificationCrypto;
  readonly #known: RecentMap<VerifiedChain>;

  constructor(crypto: VerificationCrypto, maxChains: number) {
    this.#crypto = crypto;
    this.#known = new RecentMap(maxChains);
  }

  /** @throws what verifyChain throws */
  async verify(certificates: readonly Uint8Array[], anchor: TrustAnchor): Promise<VerifiedChain> {
    const name = toHex(await this.#crypto.sha256(frame(certificates)));
    const known = this.#known.get(name);
    if (known === undefined) {
      const chain = await verifyChain(certificates, anchor, this.#crypto);
      this.#known.set(name, chain);
      return chain;
    }
    requireTrustedRoot(known.rootSha256, anchor.roots);
    requireValidity(known.links, anchor.atMs);
    return known;
  }
}

/** Lengths stand before the bytes: other certificates would give other bytes. */
function frame(certificates: readonly Uint8Array[]): Uint8Array {
  return joinBytes(certificates.flatMap((der) => [Uint8Array.of(der.length >> 8, der.length & 0xff), der]));
}
