import type { ErrorCode } from "../../core/error-table.ts";
import { KitError, toKitError } from "../../core/errors.ts";

const STATUS: Partial<Readonly<Record<ErrorCode, number>>> = {
  E_CONTROL_REQUEST: 400,
  E_CONTROL_FORBIDDEN: 403,
  E_CONTROL_CLOSED: 403,
  E_CONTROL_NOT_FOUND: 404,
  E_SERVICE_UNKNOWN: 404,
  E_EXEC_UNKNOWN: 404,
  E_EXEC_USER: 404,
  E_ARCHIVE_NOT_FOUND: 404,
  E_ARCHIVE_FORMAT: 400,
  E_ARCHIVE_ENTRY: 400,
  E_ARCHIVE_ACCESS: 403,
  E_ARCHIVE_OWNER: 403,
  E_ARCHIVE_DESTINATION: 409,
  E_ARCHIVE_CHANGED: 409,
  E_ARCHIVE_LIMIT: 413,
  E_DISK_FULL: 507,
  E_ENCLAVE_CONFIG: 400,
  E_ENCLAVE_SINGLE_USER: 409,
  E_EXEC_STATE: 409,
  E_ENCLAVE_STOPPING: 409,
  E_CONTROL_BUSY: 503,
  E_CONTROL_GONE: 503,
};

/** HTTP status of a refusal; 500 for faults of our own. */
export function httpStatusOf(error: KitError): number {
  return STATUS[error.code] ?? 500;
}

/** Errors of the HTTP library about the request itself (4xx) become E_CONTROL_REQUEST. */
export function toControlError(error: unknown): KitError {
  const status =
    typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : 500;
  const isRequest = typeof status === "number" && status >= 400 && status < 500;
  if (!isRequest) return toKitError(error);
  const message = error instanceof Error ? error.message : "bad request";
  return new KitError("E_CONTROL_REQUEST", message, { cause: error });
}
