/**
 * The attestation API's shapes, JSON over HTTPS on vsock port 8443, as schemas for both sides. Bytes that a caller sends
 * or keeps (nonce, statement, document) are base64 (RFC 4648 section 4, with padding, no other spelling of the same bytes);
 * digests, registers and fingerprints are lower case hex, as every tool prints them.
 */
import { z } from "zod";

import { MAX_DOCUMENT_BYTES } from "./attestation-document.ts";

export const NONCE_BYTES = { minimum: 1, maximum: 512 } as const;
export const MAX_STATEMENT_BYTES = 16 * 1024;

const MAX_REGISTER = 31;
const Text = z.string().max(4096);
const Time = z.int().min(0);
const Sha256 = z
  .string()
  .regex(/^[0-9a-f]{64}$/, "must be SHA-256 in lower case hex")
  .meta({ description: "SHA-256, lower case hex" });
const Register = z
  .string()
  .regex(/^(?:[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$/, "must be a digest in lower case hex");
const RegisterName = z
  .string()
  .regex(/^(?:0|[1-9][0-9]?)$/)
  .refine((text) => Number(text) <= MAX_REGISTER, `must be a number from 0 to ${MAX_REGISTER}`);
const Registers = z
  .record(RegisterName, Register)
  .meta({ description: "Number of the register to its value" });

/** Text on the wire, bytes of `minimum` to `maximum` in the program. */
function base64(minimum: number, maximum: number): z.ZodType<Uint8Array, string> {
  return z
    .string()
    .max(4 * Math.ceil(maximum / 3), `must be base64 of at most ${maximum} bytes`)
    .transform((text, context) => {
      const bytes = Buffer.from(text, "base64");
      const isRight = bytes.toString("base64") === text && bytes.length >= minimum && bytes.length <= maximum;
      if (isRight) return new Uint8Array(bytes);
      context.addIssue(`must be base64, with padding, of ${minimum} to ${maximum} bytes`);
      return z.NEVER;
    })
    .meta({ contentEncoding: "base64", description: `base64 of ${minimum} to ${maximum} bytes` });
}

const Nonce = base64(NONCE_BYTES.minimum, NONCE_BYTES.maximum);
const Document = base64(1, MAX_DOCUMENT_BYTES);

export const AttestationRequestSchema = z.strictObject({
  nonce: Nonce,
  statement: base64(0, MAX_STATEMENT_BYTES).optional(),
});

export const AttestationAnswerSchema = z.object({
  document: Document,
  /** The document's own words, for those who show them before they verify. */
  timestampMs: Time,
});

export const HealthSchema = z.object({ status: z.literal("alive") });

export const ReadySchema = z.object({
  status: z.literal("ready"),
  provider: z.enum(["nitro", "development"]),
  documentTimeMs: Time,
  clockOffsetMs: z.int(),
  clockJumps: Time,
  certificateNotAfterMs: Time,
});

export const RegistersSchema = z.object({
  digest: Text,
  pcrs: Registers,
  timestampMs: Time,
});

export const ImageSchema = z.object({
  name: Text,
  mode: z.enum(["development", "production"]),
  provider: z.enum(["nitro", "development"]),
  rootSha256: Sha256,
  toolkit: Text,
  configSha256: Text.meta({ description: "SHA-256 of the measured configuration" }),
  lockSha256: Text.nullable().meta({ description: "SHA-256 of enclave.lock; null: built without one" }),
  measurements: Registers,
});

export const VerifyRequestSchema = z.strictObject({
  document: Document,
  root: Sha256.optional().meta({
    description: "SHA-256 of the root; the enclave's own provider's unless given",
  }),
  nonce: Nonce.optional(),
  statement: base64(0, MAX_STATEMENT_BYTES).optional(),
  pcrs: Registers.optional(),
  maxAgeMs: z
    .int()
    .min(1)
    .max(366 * 86_400_000)
    .optional(),
  allowDebug: z.boolean().optional(),
});

export const VerifyAnswerSchema = z.object({
  verified: z.boolean(),
  refusal: z.object({ code: Text, message: Text, hint: Text }).nullable(),
  document: z
    .object({
      moduleId: Text,
      timestampMs: Time,
      isDebug: z.boolean(),
      rootSha256: Sha256,
      pcrs: Registers,
    })
    .nullable(),
  atMs: Time.meta({ description: "The time that was verified at" }),
  note: Text,
});

/** RFC 9457, with our code and hint. */
export const ProblemSchema = z.object({
  type: Text,
  title: Text,
  status: z.int().min(400).max(599),
  detail: Text,
  code: z.string().max(64),
  hint: Text,
});

export type VerifyRequest = z.output<typeof VerifyRequestSchema>;
export type VerifyAnswer = z.output<typeof VerifyAnswerSchema>;
export type Problem = z.output<typeof ProblemSchema>;
