import { InvalidArgumentError } from "commander";

import { parseDurationMs } from "../../core/quantities.ts";

/** Milliseconds of an option's `10m`. */
export function parseDuration(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs === undefined)
    throw new InvalidArgumentError("write a duration such as 500ms, 10s or 1m30s");
  return durationMs;
}

export function parseCount(text: string): number {
  if (!/^[0-9]{1,6}$/.test(text)) throw new InvalidArgumentError("write a number up to 999999");
  return Number(text);
}

/** Of samples: what the control API takes. */
export function parseInterval(text: string): number {
  const intervalMs = parseDuration(text);
  if (intervalMs < 100 || intervalMs > 60_000) throw new InvalidArgumentError("write 100ms to 1m");
  return intervalMs;
}
