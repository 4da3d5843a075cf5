import { setTimeout as delay } from "node:timers/promises";

import { toKitError } from "../../../core/errors.ts";
import type { NitroCli } from "./nitro-cli.ts";

export interface WatchOptions {
  readonly id: string;
  readonly pollMs: number;
  readonly signal: AbortSignal;
  /** Hears once of every time that nitro-cli stops answering. */
  readonly onTrouble: (why: string) => void;
}

/** After this many failures in a row looks become rarer. */
const MAX_SLOWDOWN = 30;

/**
 * Looks at describe-enclaves until the enclave is terminating or absent. A nitro-cli that does not answer says nothing
 * about the enclave, so the watch goes on.
 * @returns false if the signal ended it
 */
export async function watchEnclave(cli: NitroCli, options: WatchOptions): Promise<boolean> {
  const { id, pollMs, signal, onTrouble } = options;
  let failures = 0;
  while (!signal.aborted) {
    await delay(pollMs * Math.min(1 + failures, MAX_SLOWDOWN), undefined, { signal }).catch(() => undefined);
    if (signal.aborted) break;
    try {
      const enclave = (await cli.describeEnclaves(signal)).find((one) => one.EnclaveID === id);
      if (enclave === undefined || enclave.State === "TERMINATING") return true;
      failures = 0;
    } catch (error) {
      if (failures === 0 && !signal.aborted) onTrouble(toKitError(error).message);
      failures += 1;
    }
  }
  return false;
}
