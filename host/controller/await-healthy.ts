import { setTimeout as delay } from "node:timers/promises";

import { KitError } from "../../core/errors.ts";
import { describeService, isFailing, isSettled } from "../runner/enclave-condition.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { isLive } from "./inspect.ts";

/** A service without a health check counts as up once it has run this long without a change. */
const SETTLE_MS = 500;

/**
 * Reads records until the enclave runs, everything healthy.
 * @throws E_HOST_SERVICE_FAILED, E_HOST_ENCLAVE_FAILED, or the refusal that the runner met; E_DEADLINE.
 */
export async function awaitHealthy(
  records: AsyncIterator<EnclaveRecord>,
  signal: AbortSignal,
): Promise<EnclaveRecord> {
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  let last: EnclaveRecord | undefined;
  let next = records.next();
  try {
    for (;;) {
      const result = await Promise.race([next, aborted.promise, ...settling(last)]);
      if (result === "settled" && last !== undefined) return last;
      if (result === "settled" || result.done === true) throw failure(last);
      last = result.value;
      next = records.next();
      refuseFailed(last);
      if (isUp(last) && last.services.every((service) => service.health === "healthy")) return last;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    next.catch(() => undefined); // nobody waits for it any more
  }
}

function settling(record: EnclaveRecord | undefined): Promise<"settled">[] {
  return record !== undefined && isUp(record) ? [delay(SETTLE_MS, "settled" as const, { ref: false })] : [];
}

function isUp(record: EnclaveRecord): boolean {
  return record.state === "running" && (record.mode === "production" || record.services.every(isSettled));
}

function refuseFailed(record: EnclaveRecord): void {
  if (!isLive(record)) throw failure(record);
  const failing = record.services.find(isFailing);
  if (failing === undefined) return;
  throw new KitError("E_HOST_SERVICE_FAILED", describeService(failing), {
    details: { service: failing.name },
  });
}

function failure(record: EnclaveRecord | undefined): KitError {
  if (record === undefined) return new KitError("E_HOST_RUNNER", "the runner ended before it said anything");
  const { error } = record;
  if (error !== null)
    return new KitError(error.code, error.message, { hint: error.hint, details: error.details });
  return new KitError(
    "E_HOST_ENCLAVE_FAILED",
    `enclave ${record.name} ended: ${record.reason ?? record.state}`,
  );
}
