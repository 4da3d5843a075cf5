/**
 * The one error class of the toolkit. A KitError says that the world refused (bad file, dead peer, missing
 * permission); a TypeError or RangeError says that the caller of a function was wrong.
 */
import { ERROR_TABLE, type ErrorCode } from "./error-table.ts";

export interface KitErrorInit {
  /** What went wrong one level below; always kept. */
  readonly cause?: unknown;
  /** What the operator should do; replaces the general hint of the table. */
  readonly hint?: string;
  /** Facts for logs and `--json`. Never holds a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** A refusal with a stable `code`, a message that names the value, a `hint`, and the cause. */
export class KitError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, init: KitErrorInit = {}) {
    super(message, "cause" in init ? { cause: init.cause } : undefined);
    this.name = "KitError";
    this.code = code;
    this.hint = init.hint ?? ERROR_TABLE[code].hint;
    this.details = init.details ?? {};
  }

  /** The process exit status of this refusal, from the one table. */
  get exitStatus(): number {
    return ERROR_TABLE[this.code].exit;
  }
}

/** The single door for caught values: keeps a KitError, names aborts and deadlines, wraps everything else. */
export function toKitError(error: unknown): KitError {
  if (error instanceof KitError) return error;
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  if (name === "TimeoutError") return new KitError("E_DEADLINE", "the deadline passed", { cause: error });
  if (name === "AbortError") return new KitError("E_CANCELLED", "cancelled", { cause: error });
  if (isErrno(error, "ENOSPC")) return new KitError("E_DISK_FULL", error.message, { cause: error });
  return new KitError("E_INTERNAL", error instanceof Error ? error.message : String(error), { cause: error });
}

/** True for a system error, with that errno name where one is given. */
export function isErrno(error: unknown, errno?: string): error is NodeJS.ErrnoException {
  if (!(error instanceof Error) || !("code" in error)) return false;
  return errno === undefined ? typeof error.code === "string" : error.code === errno;
}

/** The JSON form of an error, the same for every program that prints or sends one. */
export interface ErrorJson {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export function errorToJson(error: KitError): ErrorJson {
  return { code: error.code, message: error.message, hint: error.hint, details: error.details };
}
