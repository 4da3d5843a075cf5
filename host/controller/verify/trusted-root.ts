import { createHash, X509Certificate } from "node:crypto";
import type { Readable } from "node:stream";

import { AWS_ROOT_SHA256 } from "../../../attest/verify/aws-root.ts";
import { KitError } from "../../../core/errors.ts";
import { readLimited } from "./limited-input.ts";

/** Who is trusted to say what runs where. */
export interface TrustedRoot {
  /** Of its certificate in DER, lower-case hex. */
  readonly sha256: string;
  readonly isAws: boolean;
}

const MAX_FILE_BYTES = 64 * 1024;
const DIGEST = /^sha256:([0-9a-f]{64})$/i;

/** @param text `aws`, `sha256:HEX`, or the path of a certificate in PEM or DER; @throws E_USAGE */
export async function findRoot(text: string, stdin: Readable, signal: AbortSignal): Promise<TrustedRoot> {
  if (text === "aws") return { sha256: AWS_ROOT_SHA256, isAws: true };
  const sha256 = DIGEST.exec(text)?.[1]?.toLowerCase() ?? (await hashCertificate(text, stdin, signal));
  return { sha256, isAws: sha256 === AWS_ROOT_SHA256 };
}

async function hashCertificate(path: string, stdin: Readable, signal: AbortSignal): Promise<string> {
  if (path === "-" || path.startsWith("sha256:")) throw noRoot(path);
  const bytes = await readLimited(path, stdin, { what: "root", maxBytes: MAX_FILE_BYTES, signal });
  if (bytes.length > MAX_FILE_BYTES) throw noRoot(path);
  try {
    return createHash("sha256").update(new X509Certificate(bytes).raw).digest("hex");
  } catch (error) {
    throw noRoot(path, error);
  }
}

function noRoot(text: string, cause?: unknown): KitError {
  return new KitError("E_USAGE", `${JSON.stringify(text)} is no root of trust`, {
    cause,
    hint: "Write --root aws, --root sha256:HEX with the 64 digits of a certificate's SHA-256, or the file of one certificate in PEM or DER.",
  });
}
