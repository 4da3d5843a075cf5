import type { AttestationPolicy } from "../verify/attestation-policy.ts";

/**
 * What a peer must prove. Purpose, public key and user data are fixed by attested TLS (wire/ra-tls.ts), and a certificate's
 * document can carry no nonce of a client that has not spoken yet: the handshake makes it fresh.
 */
export interface ClientPolicy extends Omit<
  AttestationPolicy,
  "purpose" | "nonce" | "userData" | "publicKey"
> {
  /** Milliseconds since the epoch; the system's unless given. */
  readonly clock?: () => number;
  /**
   * For servers that want to know their clients, PEM. It is shown in the handshake, under encryption, but before the peer
   * has proven anything: a stranger in between learns the certificate, not the key.
   */
  readonly identity?: { readonly cert: string; readonly key: string };
}
