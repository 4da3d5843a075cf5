/** What the verifier cannot do itself: two functions, so that it runs on Node and in browsers alike. */
export interface VerificationCrypto {
  sha256(bytes: Uint8Array): Promise<Uint8Array> | Uint8Array;
  /**
   * ECDSA on P-384 with SHA-384.
   * @param spki key, DER of 120 bytes; false, not an error, where its point is not on the curve
   * @param signature r || s, 96 bytes
   */
  verifyEs384(spki: Uint8Array, signature: Uint8Array, data: Uint8Array): Promise<boolean> | boolean;
}
