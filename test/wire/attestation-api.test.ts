import fc from "fast-check";
import { expect, test } from "vitest";
import type { z } from "zod";

import { KitError } from "../../core/errors.ts";
import { parseBody } from "../../ra-server/api/request-body.ts";
import { AttestationRequestSchema, VerifyRequestSchema } from "../../wire/attestation-api.ts";

test("any JSON is a request or a coded refusal", () => {
  const check = (body: unknown): void => {
    const schemas: readonly z.ZodType[] = [AttestationRequestSchema, VerifyRequestSchema];
    for (const schema of schemas) {
      try {
        parseBody(body, schema);
      } catch (error) {
        expect(error).toBeInstanceOf(KitError);
      }
    }
  };
  fc.assert(fc.property(fc.jsonValue(), check), { numRuns: 500 });
  const keys = fc.constantFrom("nonce", "document", "statement", "pcrs", "root", "maxAgeMs", "allowDebug");
  const near = fc.dictionary(keys, fc.oneof(fc.jsonValue(), fc.base64String()));
  fc.assert(fc.property(near, check), { numRuns: 500 });
});

test("a nonce is the bytes that its one spelling says, from 1 to 512", () => {
  const sizes = fc.uint8Array({ minLength: 0, maxLength: 700 });
  const property = fc.property(sizes, (bytes) => {
    const body = { nonce: Buffer.from(bytes).toString("base64") };
    const parsed = AttestationRequestSchema.safeParse(body);
    expect(parsed.success).toBe(bytes.length >= 1 && bytes.length <= 512);
    if (parsed.success) expect(parsed.data.nonce).toEqual(bytes);
  });
  fc.assert(property, { numRuns: 300 });
});
