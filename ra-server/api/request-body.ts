import type { z } from "zod";

import { KitError } from "../../core/errors.ts";

/** A body by the schema of its route. @throws E_RA_REQUEST */
export function parseBody<T>(body: unknown, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(body ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const place = ["body", ...(issue?.path ?? []).map(String)].join(".").slice(0, 128);
  throw new KitError("E_RA_REQUEST", `${place}: ${issue?.message.slice(0, 256) ?? "is malformed"}`);
}
