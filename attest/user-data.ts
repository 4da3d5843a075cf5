/** `user_data` of the toolkit's documents (wire/purposes.ts): a digest over the purpose and its data, never a caller's bytes. */
import { joinBytes } from "../core/bytes.ts";
import { encodeCborBytes } from "../wire/cbor/cbor-encoder.ts";
import { type Purpose, PURPOSES, USER_DATA_BYTES, USER_DATA_VERSION } from "../wire/purposes.ts";

type Sha256 = (bytes: Uint8Array) => Promise<Uint8Array> | Uint8Array;

/** @returns USER_DATA_BYTES: version, tag of the purpose, SHA-256 over the canonical CBOR of {data, purpose} */
export async function encodeUserData(
  purpose: Purpose,
  data: Uint8Array,
  sha256: Sha256,
): Promise<Uint8Array<ArrayBuffer>> {
  // Keys in the order of RFC 8949, section 4.2.1: the shorter first.
  const said = new Map<string, Uint8Array | string>([
    ["data", data],
    ["purpose", purpose],
  ]);
  const digest = await sha256(encodeCborBytes(said));
  return joinBytes([Uint8Array.of(USER_DATA_VERSION, PURPOSES[purpose]), digest]);
}

/** The purpose that user data claims by its form; null: not of this toolkit, or of a later one. */
export function readPurpose(userData: Uint8Array): Purpose | null {
  const [version, tag] = userData;
  if (userData.length !== USER_DATA_BYTES || version !== USER_DATA_VERSION) return null;
  for (const name of purposeNames()) if (PURPOSES[name] === tag) return name;
  return null;
}

/** Every purpose there is. */
export function purposeNames(): readonly Purpose[] {
  return Object.keys(PURPOSES).filter((name): name is Purpose => Object.hasOwn(PURPOSES, name));
}
