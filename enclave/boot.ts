/** From what init hands over to a running supervisor, and to the exit status that init understands. */
import { access, chmod, chown, mkdir, readFile, stat } from "node:fs/promises";

import { isErrno, KitError, toKitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { EnclaveConfig } from "../wire/enclave-config.ts";
import { decodeEnclaveConfig, MAX_CONFIG_BYTES } from "../wire/enclave-config-decoder.ts";
import { GUEST_FOLDER } from "../wire/hybrid-vsock.ts";
import { SYSTEM_CLOCK } from "./clock.ts";
import type { GatewayCommand } from "./gateway-process.ts";
import { notifyReady, notifyRefusal, SUPERVISOR_REFUSED_STATUS } from "./init-notice.ts";
import { makeOutputPipes } from "./output-pipes.ts";
import { Supervisor } from "./supervisor.ts";
import { countUids } from "./uid-map.ts";

export interface BootLayout {
  readonly config: string;
  readonly serviceExec: string;
  /** Where the services' output pipes are made. */
  readonly pipeDirectory: string;
  readonly node: string;
  /** The loader is used only where it exists. */
  readonly loader: string;
  readonly libraries: string;
  readonly gateway: string;
  readonly logDirectory: string;
  readonly uidMap: string;
}

export interface BootOptions {
  /** `--generation N --previous-exit TEXT`; anything else is ignored. */
  readonly arguments: readonly string[];
  readonly layout: BootLayout;
  readonly vsockDirectoryFd: number;
  readonly notifyFd: number;
  /** uid and gid of the gateway. */
  readonly gatewayId: number;
  readonly pid: number;
  readonly log: Log;
  /** Calls the handler when the machine is to end. */
  readonly onStopSignal: (handler: (name: string) => void) => void;
}

/** Garbage of busy streams is collected early: it halves the resident memory under load and costs little. */
const NODE_FLAGS = ["--max-semi-space-size=2"];

/** Runs until the ordered end. @returns the exit status: 0, or 78 if this image cannot be run here. */
export async function runSupervisor(options: BootOptions): Promise<number> {
  let supervisor: Supervisor;
  try {
    supervisor = await prepareSupervisor(options);
  } catch (error) {
    const refusal = toKitError(error);
    options.log.error("this image cannot be run here", { code: refusal.code, reason: refusal.message });
    await notifyRefusal(options.notifyFd, refusal);
    return SUPERVISOR_REFUSED_STATUS;
  }
  options.onStopSignal((name) => supervisor.shutDown(name));
  supervisor.start();
  await supervisor.ended;
  return 0;
}

async function prepareSupervisor(options: BootOptions): Promise<Supervisor> {
  const { layout, log, pid } = options;
  const config = decodeEnclaveConfig(await readBounded(layout.config));
  const setIdentity = countUids(await readFile(layout.uidMap, "utf8")) > 1;
  if (!setIdentity) assertSingleUser(config);
  await prepareGuestFolder(options, setIdentity);
  const logDirectory = await makeLogDirectory(layout.logDirectory, log);
  const pipeDirectory = await makeOutputPipes({
    directory: layout.pipeDirectory,
    services: config.services,
    serviceExec: layout.serviceExec,
    setIdentity,
    log,
  });
  return new Supervisor({
    config,
    pipeDirectory,
    ...readArguments(options.arguments),
    pid,
    serviceExec: layout.serviceExec,
    setIdentity,
    gateway: await gatewayCommand(options, setIdentity),
    ...(logDirectory === undefined ? {} : { logDirectory }),
    clock: SYSTEM_CLOCK,
    random: Math.random,
    log,
    onReady: () => void notifyReady(options.notifyFd),
  });
}

async function readBounded(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > MAX_CONFIG_BYTES) throw new KitError("E_ENCLAVE_CONFIG", `${path} has ${size} bytes`);
    return await readFile(path);
  } catch (error) {
    if (!isErrno(error)) throw error;
    throw new KitError("E_ENCLAVE_CONFIG", `cannot read ${path}: ${error.code ?? ""}`, { cause: error });
  }
}

function assertSingleUser({ mode, singleUser, services }: EnclaveConfig): void {
  if (mode === "production") {
    throw new KitError("E_ENCLAVE_SINGLE_USER", "only one uid is mapped, which production mode refuses");
  }
  const other = services.find((service) => service.user.uid !== 0);
  if (singleUser || other === undefined) return;
  const message = `only one uid is mapped, but service ${other.name} is to run as ${other.user.name} (${other.user.uid})`;
  throw new KitError("E_ENCLAVE_SINGLE_USER", message);
}

/**
 * The gateway makes its sockets in the folder; they take the folder's group, which is that of the host's user, so that
 * the runner may connect and nobody else. Of the directory itself the gateway may only pass through.
 */
async function prepareGuestFolder(options: BootOptions, setIdentity: boolean): Promise<void> {
  const directory = `/proc/self/fd/${options.vsockDirectoryFd}`;
  const folder = `${directory}/${GUEST_FOLDER}`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o770 });
    if (!setIdentity) return;
    const { mode } = await stat(directory);
    if ((mode & 0o001) === 0) await chmod(directory, (mode & 0o777) | 0o001);
    const { gid } = await stat(folder);
    await chown(folder, options.gatewayId, gid);
    await chmod(folder, 0o2770);
  } catch (error) {
    if (!isErrno(error)) throw error;
    const message = `no usable vsock directory on descriptor ${options.vsockDirectoryFd}: ${error.code ?? ""}`;
    throw new KitError("E_ENCLAVE_VSOCK", message, { cause: error });
  }
}

/** Lines stay in memory where there is no place for files. */
async function makeLogDirectory(path: string, log: Log): Promise<string | undefined> {
  try {
    await mkdir(path, { recursive: true, mode: 0o750 });
    return path;
  } catch (error) {
    log.warn("no log files", { path, reason: toKitError(error).message });
    return undefined;
  }
}

async function gatewayCommand(
  { layout, gatewayId, vsockDirectoryFd }: BootOptions,
  setIdentity: boolean,
): Promise<GatewayCommand> {
  const { loader, libraries, node, gateway } = layout;
  const prefix = (await exists(loader))
    ? [loader, "--library-path", libraries, "--argv0", "gateway", node]
    : [node];
  return {
    command: [...prefix, ...NODE_FLAGS, gateway],
    vsockDirectoryFd,
    ...(setIdentity ? { identity: { uid: gatewayId, gid: gatewayId } } : {}),
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (isErrno(error)) return false;
    throw error;
  }
}

function readArguments(words: readonly string[]): { generation: number; previousExit: string | null } {
  const valueOf = (name: string): string | undefined => {
    const index = words.indexOf(name);
    return index === -1 ? undefined : words[index + 1];
  };
  const generation = Number(valueOf("--generation") ?? 1);
  const previousExit = valueOf("--previous-exit") ?? "none";
  return {
    generation: Number.isSafeInteger(generation) && generation > 0 ? generation : 1,
    previousExit: previousExit === "none" || previousExit === "" ? null : previousExit,
  };
}
