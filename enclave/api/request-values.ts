/** What a request brings, checked against the schema of its route. */
import type { z } from "zod";

import { KitError } from "../../core/errors.ts";

/** @throws E_CONTROL_REQUEST for what the schema does not have, and for a key that is given twice where one is meant. */
export function parseQuery<T>(url: string, schema: z.ZodType<T>): T {
  const search = new URL(url, "http://enclave").searchParams;
  const values: Record<string, string | string[]> = {};
  for (const key of new Set(search.keys())) {
    const all = search.getAll(key);
    values[key] = all.length === 1 ? (all[0] ?? "") : all;
  }
  return check(values, schema, "query");
}

/** @throws E_CONTROL_REQUEST */
export function parseBody<T>(body: unknown, schema: z.ZodType<T>): T {
  return check(body ?? {}, schema, "body");
}

/** @throws E_CONTROL_REQUEST */
export function parseId(text: string): number {
  if (/^[1-9][0-9]{0,9}$/.test(text)) return Number(text);
  throw new KitError("E_CONTROL_REQUEST", `${JSON.stringify(text.slice(0, 32))} is no number of a session`);
}

function check<T>(value: unknown, schema: z.ZodType<T>, where: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const place = [where, ...(issue?.path ?? []).map(String)].join(".").slice(0, 128);
  throw new KitError("E_CONTROL_REQUEST", `${place}: ${issue?.message.slice(0, 256) ?? "is malformed"}`);
}
