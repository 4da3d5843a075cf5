/** One command at a time decides what a name stands for: takes it, corrects its record, removes it. */
import { resolve } from "node:path";

import { KitError } from "../../core/errors.ts";
import { holdMachineLock } from "../../core/machine-lock.ts";

/** Longer than any holder needs; it never waits for services. */
const LOCK_TIMEOUT_MS = 10_000;

/** Held until disposed. @throws E_HOST_NAME_IN_USE if another command does not let go of the name in time. */
export async function lockName(
  stateDir: string,
  name: string,
  timeoutMs = LOCK_TIMEOUT_MS,
): Promise<AsyncDisposable> {
  const lock = await holdMachineLock(`${resolve(stateDir)}\0${name}`, timeoutMs);
  if (lock !== undefined) return lock;
  throw new KitError("E_HOST_NAME_IN_USE", `another command is busy with enclave ${name}`, {
    hint: "Wait until it is done, or end it.",
  });
}
