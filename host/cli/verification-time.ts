import { InvalidArgumentError } from "commander";

/** Milliseconds since the epoch; or the moment when the document was read. */
export type VerificationTime = number | "now";

const TIME = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/;

/** `now`, or a time of RFC 3339 with its zone. */
export function parseTime(text: string): VerificationTime {
  if (text === "now") return "now";
  const [, day = ""] = TIME.exec(text) ?? [];
  const atMs = day === "" ? Number.NaN : Date.parse(text);
  // The 30th of February would be the 2nd of March.
  const isDay = !Number.isNaN(Date.parse(day)) && new Date(day).toISOString().startsWith(day);
  if (Number.isNaN(atMs) || !isDay)
    throw new InvalidArgumentError("write now, or a time with its zone such as 2026-01-31T12:00:00Z");
  return atMs;
}
