/**
 * Where the body of a request ends (RFC 9112, 6.3), for requests that leave no doubt about it. Of all that a request can
 * say, this is what servers disagree about most, and what one of them takes for a body is the next request for another.
 */
import type { HeaderFields } from "./http-head.ts";
import { refuseStream } from "./refusal.ts";

export type BodyLength =
  { readonly kind: "none" | "chunked" } | { readonly kind: "bytes"; readonly sizeBytes: number };

/** @param isOld HTTP/1.0, which has no transfer codings. @throws E_EGRESS_INSPECTION */
export function readBodyLength(fields: HeaderFields, isOld: boolean): BodyLength {
  const lengths = fields.get("content-length");
  const codings = fields.get("transfer-encoding");
  if (lengths !== undefined && codings !== undefined)
    throw refuseStream("it tells the length of its body twice");
  if (codings !== undefined) {
    if (isOld || codings.length !== 1 || codings[0]?.toLowerCase() !== "chunked")
      throw refuseStream("its transfer coding is not chunked");
    return { kind: "chunked" };
  }
  return lengths === undefined ? { kind: "none" } : parseLength(lengths);
}

function parseLength(lengths: readonly string[]): BodyLength {
  const [length = ""] = lengths;
  if (lengths.length !== 1 || !/^[0-9]{1,15}$/.test(length))
    throw refuseStream("its Content-Length is not one number");
  return Number(length) === 0 ? { kind: "none" } : { kind: "bytes", sizeBytes: Number(length) };
}
