/**
 * One launch: one at a time on this machine, because every nitro-cli waits for its enclave's heartbeat on the same vsock
 * port. A launch that fails or is given up leaves no enclave.
 */
import { KitError, toKitError } from "../../../core/errors.ts";
import { holdMachineLock } from "../../../core/machine-lock.ts";
import { checkCpuNode, chooseCpus } from "./cpu-pool.ts";
import { sweep, terminateNamed } from "./enclave-end.ts";
import { checkMemory, launchTimeoutMs } from "./launch-limits.ts";
import type { LaunchRequest, NitroCli } from "./nitro-cli.ts";
import { isNitroRefusal } from "./nitro-errors.ts";
import { type NitroPlan, sizeOfImage } from "./nitro-plan.ts";

export interface LaunchOptions {
  readonly plan: NitroPlan;
  /** "/" unless in tests: where the pool of CPUs is read. */
  readonly root?: string;
  readonly times?: LaunchTimes;
}

/** Shorter ones for tests. */
export interface LaunchTimes {
  /** For a launch of somebody else to end. */
  readonly lockMs?: number;
  /** For run-enclave; else what nitro-cli itself would wait, and more. */
  readonly launchMs?: number;
  /** For an enclave to show itself after its launch was given up. */
  readonly quietMs?: number;
  /** Key of the lock. */
  readonly lockKey?: string;
}

export interface Launched {
  readonly id: string;
  readonly cid: number;
}

const LOCK_KEY = "nitro-cli run-enclave";
const LOCK_TIMEOUT_MS = 600_000;
const QUIET_MS = 10_000;
const CLEAN_UP_MS = 60_000;

/** @throws E_NITRO_*, E_EIF_FILE, E_DEADLINE, the reason of the signal */
export async function launchEnclave(
  cli: NitroCli,
  options: LaunchOptions,
  signal: AbortSignal,
): Promise<Launched> {
  const { plan, times = {} } = options;
  const imageBytes = await sizeOfImage(plan.eifPath);
  const memoryMib = checkMemory(plan.memoryBytes, imageBytes);
  const lockMs = times.lockMs ?? LOCK_TIMEOUT_MS;
  await using lock = await holdMachineLock(times.lockKey ?? LOCK_KEY, lockMs, { signal });
  if (lock === undefined)
    throw new KitError("E_NITRO_BUSY", `another launch has not ended within ${Math.ceil(lockMs / 1000)} s`);
  const request: LaunchRequest = {
    eifPath: plan.eifPath,
    cpus: await chooseFor(cli, options, signal),
    memoryMib,
    cid: plan.cid,
    name: plan.launchName,
    debug: plan.debug,
    timeoutMs: times.launchMs ?? launchTimeoutMs(plan.memoryBytes, imageBytes),
  };
  try {
    const enclave = await cli.runEnclave(request, signal);
    return { id: enclave.EnclaveID, cid: enclave.EnclaveCID };
  } catch (error) {
    await cleanUp(cli, request, { error, quietMs: times.quietMs ?? QUIET_MS });
    throw error;
  }
}

/** A nitro-cli that refused has ended its enclave itself; one that was killed, or not understood, may have left one. */
async function cleanUp(
  cli: NitroCli,
  { name, timeoutMs }: LaunchRequest,
  { error, quietMs }: { readonly error: unknown; readonly quietMs: number },
): Promise<void> {
  if (toKitError(error).code === "E_NITRO_MISSING") return;
  if (isNitroRefusal(error)) await terminateNamed(cli, name, AbortSignal.timeout(CLEAN_UP_MS));
  else await sweep(cli, { name, quietMs, timeoutMs });
}

async function chooseFor(
  cli: NitroCli,
  { plan, root = "/" }: LaunchOptions,
  signal: AbortSignal,
): Promise<LaunchRequest["cpus"]> {
  const { cpus, cpuIds, numaNode, cid } = plan;
  const isAsked = cid !== undefined || (numaNode !== undefined && cpuIds === undefined);
  const others = isAsked ? await cli.describeEnclaves(signal) : [];
  if (cid !== undefined && others.some((enclave) => enclave.EnclaveCID === cid))
    throw new KitError("E_NITRO_CID", `a running enclave has CID ${cid}`);
  if (cpuIds !== undefined) {
    if (numaNode !== undefined) await checkCpuNode(root, cpuIds, numaNode);
    return { ids: cpuIds };
  }
  if (numaNode === undefined) return { count: cpus };
  const taken = others.flatMap((enclave) => enclave.CPUIDs);
  return { ids: await chooseCpus({ root, count: cpus, numaNode, taken }) };
}
