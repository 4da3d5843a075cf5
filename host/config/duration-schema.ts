import { z } from "zod";

import { parseDurationMs } from "../../core/quantities.ts";

/** `500ms`, `10s`, `1m30s` as milliseconds. */
export const Duration = z.string().transform((text, context) => {
  const durationMs = parseDurationMs(text);
  if (durationMs !== undefined) return durationMs;
  context.addIssue({
    code: "custom",
    message: `${JSON.stringify(text)} is no duration: write a duration such as 500ms, 10s or 1m30s`,
  });
  return z.NEVER;
});
