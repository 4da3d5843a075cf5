import { createPublicKey, hash, type KeyObject, verify } from "node:crypto";

import { RecentMap } from "./recent-map.ts";
import type { VerificationCrypto } from "./verification-crypto.ts";

const MAX_KEYS = 256;

/** By Node's own library, on the thread of the caller: half a millisecond to one for a signature. */
export function createNodeCrypto(): VerificationCrypto {
  const keys = new RecentMap<KeyObject>(MAX_KEYS);
  const importKey = (spki: Uint8Array): KeyObject | undefined => {
    const name = Buffer.from(spki.buffer, spki.byteOffset, spki.length).toString("latin1");
    const known = keys.get(name);
    if (known !== undefined) return known;
    const key = readKey(spki);
    if (key !== undefined) keys.set(name, key);
    return key;
  };
  return {
    sha256: (bytes) => hash("sha256", bytes, "buffer"),
    verifyEs384: (spki, signature, data) => {
      const key = importKey(spki);
      return key !== undefined && verify("sha384", data, { key, dsaEncoding: "ieee-p1363" }, signature);
    },
  };
}

/** undefined: no key, or none on P-384. */
function readKey(spki: Uint8Array): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: Buffer.from(spki), type: "spki", format: "der" });
    return key.asymmetricKeyDetails?.namedCurve === "secp384r1" ? key : undefined;
  } catch {
    return undefined;
  }
}
