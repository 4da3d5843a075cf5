/** Refusals as problem+json (RFC 9457), with our code and hint. */
import { ERROR_TABLE, type ErrorCode } from "../../core/error-table.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import type { Problem } from "../../wire/attestation-api.ts";

export const PROBLEM_TYPE = "application/problem+json";

const STATUS: Partial<Readonly<Record<ErrorCode, number>>> = {
  E_RA_REQUEST: 400,
  E_RA_CLIENT: 403,
  E_RA_NOT_FOUND: 404,
  E_RA_LIMIT: 429,
  E_RA_BUSY: 503,
  E_RA_STARTING: 503,
  E_CANCELLED: 503,
  E_DEADLINE: 503,
};
/** Families whose every member says that no document can be had. */
const UNAVAILABLE = ["E_NSM_", "E_EVIDENCE_"];

export interface Refusal {
  readonly status: number;
  readonly problem: Problem;
}

/** Faults of our own say nothing about themselves; they are in the log. */
export function toRefusal(error: KitError): Refusal {
  const status = httpStatusOf(error.code);
  const isOurs = status === 500;
  return {
    status,
    problem: {
      type: `urn:enclave-toolkit:error:${error.code}`,
      title: ERROR_TABLE[error.code].meaning,
      status,
      detail: isOurs ? "a fault of the attestation server" : error.message.slice(0, 1024),
      code: error.code,
      hint: error.hint,
    },
  };
}

function httpStatusOf(code: ErrorCode): number {
  if (UNAVAILABLE.some((prefix) => code.startsWith(prefix))) return 503;
  return STATUS[code] ?? 500;
}

/** Errors of the HTTP library about the request itself (4xx) become E_RA_REQUEST. */
export function toApiError(error: unknown): KitError {
  const status =
    typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : 500;
  const isRequest = typeof status === "number" && status >= 400 && status < 500;
  if (!isRequest || error instanceof KitError) return toKitError(error);
  const message = error instanceof Error ? error.message : "bad request";
  return new KitError("E_RA_REQUEST", message, { cause: error });
}
