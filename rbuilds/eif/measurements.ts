/** Platform configuration registers of an image: lower-case hex of 48 bytes each. */
import { createHash } from "node:crypto";

export interface Pcrs {
  readonly PCR0: string;
  readonly PCR1: string;
  readonly PCR2: string;
  /** Only of a signed image. */
  readonly PCR8?: string;
}

const REGISTER_BYTES = 48;

/** A register that starts as zeros, extended once. @param digest SHA-384 of the content in hex */
export function extendZero(digest: string): string {
  return createHash("sha384")
    .update(Buffer.alloc(REGISTER_BYTES))
    .update(Buffer.from(digest, "hex"))
    .digest("hex");
}

/** Of content that is at hand. */
export function measure(content: Uint8Array): string {
  return extendZero(createHash("sha384").update(content).digest("hex"));
}
