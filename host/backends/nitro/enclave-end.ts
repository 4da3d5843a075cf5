/** Ending enclaves so that none is left, whatever nitro-cli says the first time. */
import { setTimeout as delay } from "node:timers/promises";

import { withDeadline } from "../../../core/deadline.ts";
import { KitError, toKitError } from "../../../core/errors.ts";
import type { DescribedEnclave, NitroCli } from "./nitro-cli.ts";

const TRIES = 4;
const RETRY_MS = 500;

/** Terminates; one that is gone already is no error. @throws E_NITRO_LEFT with the command to run, the reason of the signal */
export async function terminate(cli: NitroCli, id: string, signal: AbortSignal): Promise<void> {
  let last: unknown;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    if (attempt > 0) await delay(RETRY_MS * attempt, undefined, { signal });
    try {
      await cli.terminateEnclave(id, signal);
      return;
    } catch (error) {
      signal.throwIfAborted();
      last = error;
    }
    const enclaves = await describe(cli, signal);
    if (enclaves !== undefined && !enclaves.some((enclave) => enclave.EnclaveID === id)) return;
  }
  throw new KitError(
    "E_NITRO_LEFT",
    `enclave ${id} could not be terminated: ${toKitError(last).message}; run: nitro-cli terminate-enclave --enclave-id ${id}`,
    { cause: last },
  );
}

export interface SweepOptions {
  /** Name that the launch gave its enclave; no other has it. */
  readonly name: string;
  /** How long an enclave may take to show itself after nitro-cli ended. */
  readonly quietMs: number;
  /** While the process of some enclave does not answer it may be ours: wait this long. */
  readonly timeoutMs: number;
}

/**
 * After a launch that did not end well: terminates the enclave of that name, should there be one. Killing nitro-cli does
 * not end the process that it left behind to load the image.
 * @throws E_NITRO_LEFT
 */
export async function sweep(cli: NitroCli, { name, quietMs, timeoutMs }: SweepOptions): Promise<void> {
  const startedAt = performance.now();
  for (;;) {
    const enclaves = await describe(cli, withDeadline(undefined, timeoutMs));
    const ours = enclaves?.find((enclave) => enclave.EnclaveName === name);
    if (ours !== undefined) return await terminate(cli, ours.EnclaveID, withDeadline(undefined, timeoutMs));
    const waitedMs = performance.now() - startedAt;
    if (waitedMs >= quietMs && enclaves !== undefined) return;
    if (waitedMs >= timeoutMs) throw unknown(name);
    await delay(Math.min(RETRY_MS, quietMs));
  }
}

/**
 * Terminates the enclave of that name, where nitro-cli tells of one: after a refusal, or for a runner that was killed.
 * @throws E_NITRO_LEFT, the reason of the signal
 */
export async function terminateNamed(cli: NitroCli, name: string, signal: AbortSignal): Promise<void> {
  const found = (await describe(cli, signal))?.find((enclave) => enclave.EnclaveName === name);
  if (found !== undefined) await terminate(cli, found.EnclaveID, signal);
}

/** @returns undefined where nitro-cli cannot tell */
async function describe(cli: NitroCli, signal: AbortSignal): Promise<DescribedEnclave[] | undefined> {
  try {
    return await cli.describeEnclaves(signal);
  } catch {
    return undefined;
  }
}

function unknown(name: string): KitError {
  const message = `nitro-cli describe-enclaves does not tell whether enclave ${name} runs; run: nitro-cli terminate-enclave --enclave-name ${name}`;
  return new KitError("E_NITRO_LEFT", message);
}
