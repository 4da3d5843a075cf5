/** An enclave on the hardware is nobody's child: when its runner was killed it runs on, and whoever removes it ends it. */
import { readFile } from "node:fs/promises";

import { withDeadline } from "../../core/deadline.ts";
import { isErrno } from "../../core/errors.ts";
import { terminateNamed } from "../backends/nitro/enclave-end.ts";
import { NitroCli } from "../backends/nitro/nitro-cli.ts";
import type { RunRequest } from "../runner/run-request.ts";

const TIMEOUT_MS = 120_000;

/** @param path of what the runner was told to run. @throws E_NITRO_LEFT with the command to run */
export async function endNitroLeftover(path: string): Promise<void> {
  const request = await readRequest(path);
  if (request?.machine.backend !== "nitro") return;
  const { plan } = request.machine;
  await terminateNamed(new NitroCli(plan), plan.launchName, withDeadline(undefined, TIMEOUT_MS));
}

/** Undefined for an `up` that was killed before it had written one. */
async function readRequest(path: string): Promise<RunRequest | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (isErrno(error, "ENOENT") || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
