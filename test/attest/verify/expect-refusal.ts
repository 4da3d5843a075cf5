import { expect } from "vitest";

import type { ErrorCode } from "../../../core/error-table.ts";
import { KitError } from "../../../core/errors.ts";

/** That it fails with the code, and with a message that says why. */
export async function expectRefusal(
  attempt: Promise<unknown>,
  code: ErrorCode,
  message: RegExp | string = /./,
): Promise<void> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KitError)) throw new Error(`no refusal with ${code}`, { cause: error });
  expect(`${error.code} ${error.message}`).toContain(code);
  expect(error.message).toMatch(message);
}
