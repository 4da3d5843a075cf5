/**
 * Brings an enclave up: image, plan, name, runner; then follows the runner until everything is healthy or has failed.
 */
import { spawn } from "node:child_process";
import { mkdir, open, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { KitError } from "../../core/errors.ts";
import type { BackendName } from "../backends/machine-plan.ts";
import type { EnclaveSpec, PortSpec } from "../config/enclave-spec.ts";
import { encodeStopRequest, type RunRequest } from "../runner/run-request.ts";
import { authorityFolder, enclavePaths } from "../state/enclave-paths.ts";
import { identifyProcess, type ProcessIdentity } from "../../core/process-identity.ts";
import { type EnclaveRecord, RECORD_VERSION } from "../state/enclave-record.ts";
import { lockName } from "../state/name-lock.ts";
import {
  claimName,
  decodeRecord,
  readRecord,
  removeEnclave,
  writeFirstRecord,
} from "../state/record-store.ts";
import { correctLocked, findEnclave, isLive } from "./inspect.ts";
import { endNitroLeftover } from "./nitro-leftover.ts";
import { prepareMachine } from "./machines/prepare-machine.ts";
import type { PreparedMachine } from "./machines/prepared-machine.ts";
import { stopTimeoutMs } from "./stop-timeout.ts";
import type { Toolkit } from "./toolkit.ts";

export interface UpOptions {
  readonly spec: EnclaveSpec;
  readonly backend: BackendName;
  /** Name of this enclave; the YAML's unless told. */
  readonly name: string;
  readonly ports: readonly PortSpec[];
  /** On the hardware: readable console, and measurements of zeros. */
  readonly debug: boolean;
  /** The enclave ends with this process. */
  readonly foreground: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
  readonly onWarning: (text: string) => void;
}

/** A started runner, as seen by whoever started it. */
export interface StartedEnclave extends Disposable {
  readonly runner: ProcessIdentity;
  /** Every change of the record, the newest last; ends when the runner is gone. */
  readonly records: AsyncIterable<EnclaveRecord>;
  /**
   * Asks for an ordered stop, however early; with a reason the end counts as a failure. When this process ends before
   * the enclave does, the enclave is then killed.
   */
  askStop(reason?: string): void;
}

/** @throws E_IMAGE_*, E_HOST_* */
export async function startEnclave(toolkit: Toolkit, options: UpOptions): Promise<StartedEnclave> {
  await refuseTaken(toolkit.stateDir, options.name);
  await using machine = await prepareMachine(toolkit, options.backend, options);
  const { image } = machine;
  for (const warning of image.warnings) options.onWarning(warning);
  options.signal.throwIfAborted();
  options.onProgress(`starting ${options.name}`);
  await using _lock = await lockName(toolkit.stateDir, options.name);
  await takeName(toolkit.stateDir, options.name);
  try {
    const request: RunRequest = {
      record: firstRecord(options, machine),
      machine: await machine.place(enclavePaths(toolkit.stateDir, options.name).boot),
      ports: options.ports,
      egress: image.config.egress,
      attestationPort: options.spec.attestationPort ?? null,
      registers: machine.registers,
      authority: authorityFolder(toolkit.stateDir),
      stopTimeoutMs: stopTimeoutMs(image.config.services),
      foreground: options.foreground,
    };
    return await spawnRunner(toolkit, request);
  } catch (error) {
    await removeEnclave(toolkit.stateDir, options.name);
    throw error;
  }
}

/** Early, so that a taken name costs no build. */
async function refuseTaken(stateDir: string, name: string): Promise<void> {
  const record = await findEnclave(stateDir, name);
  if (record !== undefined && isLive(record)) throw nameInUse(record);
}

/**
 * Makes the directory of the enclave; one that ended before makes way, and so does what an `up` left that was killed
 * before its runner began. The caller holds the lock of the name.
 */
async function takeName(stateDir: string, name: string): Promise<void> {
  const earlier = await readRecord(stateDir, name);
  const record = earlier === undefined ? undefined : await correctLocked(stateDir, earlier);
  if (record !== undefined && isLive(record)) throw nameInUse(record);
  await endNitroLeftover(enclavePaths(stateDir, name).request);
  await removeEnclave(stateDir, name);
  await claimName(stateDir, name);
}

function nameInUse(record: EnclaveRecord): KitError {
  return new KitError(
    "E_HOST_NAME_IN_USE",
    `enclave ${record.name} is ${record.state} already (from ${record.file})`,
  );
}

function firstRecord(
  { spec, name, ports, backend, debug }: UpOptions,
  { image, accelerator }: PreparedMachine,
): EnclaveRecord {
  return {
    version: RECORD_VERSION,
    name,
    state: "starting",
    reason: null,
    backend,
    accelerator,
    debug,
    mode: spec.mode,
    attestation: spec.attestation,
    isolated: null,
    runner: { pid: null, startTicks: null },
    ports,
    attestationPort: spec.attestationPort ?? null,
    services: image.config.services.map((service) => ({
      name: service.name,
      state: "unknown",
      pid: null,
      restarts: 0,
      health: "none",
      reason: null,
      notIsolated: null,
      limits: [],
    })),
    supervisor: { restarts: 0 },
    gateway: { restarts: 0 },
    attestationServer: null,
    limits: [],
    image: image.digest,
    imageFiles: image.filesDigest,
    overridden: false,
    file: spec.file,
    createdAt: Date.now(),
    error: null,
  };
}

async function spawnRunner(toolkit: Toolkit, request: RunRequest): Promise<StartedEnclave> {
  const paths = enclavePaths(toolkit.stateDir, request.record.name);
  await writeFile(paths.request, JSON.stringify(request), { mode: 0o600 });
  await mkdir(paths.logs, { mode: 0o700 });
  await using log = await open(paths.runnerLog, "a", 0o600);
  const child = spawn(toolkit.node, [join(toolkit.distDir, "runner.js"), paths.directory], {
    detached: true,
    stdio: ["ignore", log.fd, log.fd, "pipe"],
    cwd: "/",
    env: {},
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once("spawn", resolve).once("error", reject);
  await promise;
  child.unref();
  const channel = child.stdio[3];
  if (!(channel instanceof Socket)) throw new KitError("E_HOST_RUNNER", "the runner has no channel");
  channel.on("error", () => undefined); // its end is what counts
  const runner = child.pid === undefined ? undefined : await identifyProcess(child.pid);
  if (runner === undefined) throw new KitError("E_HOST_RUNNER", "the runner ended as soon as it started");
  try {
    // From now on every command knows who owns the enclave, also if the runner dies before its first word.
    await writeFirstRecord(toolkit.stateDir, { ...request.record, runner });
  } catch (error) {
    child.kill("SIGKILL"); // what it may have started ends with it
    throw error;
  }
  return {
    runner,
    records: readRecords(channel, request.record.name),
    askStop: (reason) => void channel.write(encodeStopRequest(reason)),
    [Symbol.dispose]: () => channel.destroy(),
  };
}

async function* readRecords(channel: Socket, name: string): AsyncGenerator<EnclaveRecord> {
  for await (const line of readLines(channel)) yield decodeRecord(line, `the runner of ${name}`);
}

/** A runner that dies ends its lines, also while something is written to it. */
async function* readLines(channel: Socket): AsyncGenerator<string> {
  try {
    yield* createInterface({ input: channel });
  } catch {
    // Its end is what counts.
  }
}
