import { expect } from "vitest";

import { KitError } from "../../core/errors.ts";
import type { ErrorCode } from "../../core/error-table.ts";

/** Matches a KitError with that code, for `toThrow` and `toEqual`. */
export function isKitError(code: ErrorCode, message?: RegExp): Error {
  const rest = message === undefined ? {} : { message: expect.stringMatching(message) as unknown };
  return expect.objectContaining({ code, ...rest, constructor: KitError }) as Error;
}
