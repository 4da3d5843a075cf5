import { KitError } from "../../core/errors.ts";
import { describeService, isFailing, isSettled } from "../runner/enclave-condition.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { isLive } from "./inspect.ts";

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
  try {
    for (;;) {
      const next = await Promise.race([records.next(), aborted.promise]);
      if (next.done === true) throw failure(last);
      last = next.value;
      if (!isLive(last)) throw failure(last);
      const failing = last.services.find(isFailing);
      if (failing !== undefined) {
        throw new KitError("E_HOST_SERVICE_FAILED", describeService(failing), {
          details: { service: failing.name },
        });
      }
      if (last.state === "running" && (last.mode === "production" || last.services.every(isSettled)))
        return last;
    }
  } finally {
    signal.removeEventListener("abort", abort);
  }
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
