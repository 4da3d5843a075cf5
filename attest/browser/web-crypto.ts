/** The verifier's cryptography by WebCrypto, as browsers and Node have it. */
import { RecentMap } from "../verify/recent-map.ts";
import type { VerificationCrypto } from "../verify/verification-crypto.ts";

const MAX_KEYS = 256;
const KEY = { name: "ECDSA", namedCurve: "P-384" } as const;
const SIGNATURE = { name: "ECDSA", hash: "SHA-384" } as const;

/** Needs a secure context: https:, file: or localhost; elsewhere browsers have no WebCrypto. */
export function createWebCrypto(): VerificationCrypto {
  const keys = new RecentMap<CryptoKey>(MAX_KEYS);
  const importKey = async (spki: Uint8Array): Promise<CryptoKey | undefined> => {
    const name = String(spki);
    const known = keys.get(name);
    if (known !== undefined) return known;
    const key = await readKey(spki);
    if (key !== undefined) keys.set(name, key);
    return key;
  };
  return {
    sha256: async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(bytes))),
    verifyEs384: async (spki, signature, data) => {
      const key = await importKey(spki);
      if (key === undefined) return false;
      return await crypto.subtle.verify(SIGNATURE, key, new Uint8Array(signature), new Uint8Array(data));
    },
  };
}

/** undefined: no key, or none on P-384. */
async function readKey(spki: Uint8Array): Promise<CryptoKey | undefined> {
  try {
    return await crypto.subtle.importKey("spki", new Uint8Array(spki), KEY, false, ["verify"]);
  } catch {
    return undefined;
  }
}
