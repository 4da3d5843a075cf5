import { expect, test } from "vitest";

import { ERROR_TABLE } from "../../core/error-table.ts";
import { errorToJson, KitError, toKitError } from "../../core/errors.ts";

test("a KitError takes hint and exit status from the table", () => {
  const error = new KitError("E_DEADLINE", "no answer in 5 s", { details: { waitedMs: 5000 } });
  expect(error.exitStatus).toBe(124);
  expect(errorToJson(error)).toEqual({
    code: "E_DEADLINE",
    message: "no answer in 5 s",
    hint: ERROR_TABLE.E_DEADLINE.hint,
    details: { waitedMs: 5000 },
  });
});

test("a hint of its own replaces the general one", () => {
  expect(new KitError("E_DEADLINE", "x", { hint: "wait longer" }).hint).toBe("wait longer");
});

test("toKitError is the single door: it keeps ours, names aborts and deadlines, keeps the cause of the rest", async () => {
  const ours = new KitError("E_USAGE", "x");
  expect(toKitError(ours)).toBe(ours);
  expect(toKitError(AbortSignal.abort().reason).code).toBe("E_CANCELLED");
  const timeout = AbortSignal.timeout(1);
  await new Promise((resolve) => timeout.addEventListener("abort", resolve));
  expect(toKitError(timeout.reason).code).toBe("E_DEADLINE");
  const full = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
  expect(toKitError(full)).toMatchObject({ code: "E_DISK_FULL", cause: full });
  expect(toKitError("text")).toMatchObject({ code: "E_INTERNAL", message: "text", cause: "text" });
});
