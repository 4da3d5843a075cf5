/**
 * What init says on vsock 9003: one connection, one line, at most MAX_INIT_LINE_BYTES with its newline.
 *
 *   ready
 *   {"code":"supervisor_crash_loop","reason":"..."}
 *
 * `ready` may come again after init restarted the supervisor; an end comes at most once.
 */
import { KitError } from "../core/errors.ts";

export const MAX_INIT_LINE_BYTES = 512;

/** Why init ended the machine. native/init.c holds the same words; a test compares them. */
export const INIT_END_CODES = [
  "poweroff", // asked for; services were stopped in order
  "supervisor_crash_loop", // it died more often than the cap allows
  "supervisor_refused", // it said that it cannot run this image here
  "shutdown_timeout", // the ordered stop took longer than init allows
  "init_failed", // init itself could not go on
] as const;

export type InitEndCode = (typeof INIT_END_CODES)[number];
export type InitLine =
  { readonly kind: "ready" } | { readonly kind: "end"; readonly code: InitEndCode; readonly reason: string };

/** @param line without its newline. @throws E_INIT_LINE */
export function decodeInitLine(line: string): InitLine {
  if (line === "ready") return { kind: "ready" };
  const value = parseObject(line);
  const code = INIT_END_CODES.find((known) => known === value["code"]);
  const reason = value["reason"];
  if (code === undefined || typeof reason !== "string" || Object.keys(value).length !== 2)
    throw refusal(line);
  return { kind: "end", code, reason };
}

function parseObject(line: string): Record<string, unknown> {
  if (line.length >= MAX_INIT_LINE_BYTES) throw refusal(line);
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch (error) {
    throw refusal(line, error);
  }
  throw refusal(line);
}

function refusal(line: string, cause?: unknown): KitError {
  return new KitError("E_INIT_LINE", `not a line of init: ${JSON.stringify(line.slice(0, 80))}`, { cause });
}
