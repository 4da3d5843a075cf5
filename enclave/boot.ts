/** From what init hands over to a running supervisor, and to the exit status that init understands. */
import { chmod, chown, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { isErrno, KitError, toKitError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import { decodeEnclaveConfig, MAX_CONFIG_BYTES } from "../wire/enclave-config-decoder.ts";
import { FIRST_FREE_PORT } from "../wire/egress-addresses.ts";
import { GUEST_FOLDER, hostListenerName } from "../wire/hybrid-vsock.ts";
import { NSM_GROUP, RA_SERVER_ID } from "../wire/runtime-layout.ts";
import { VSOCK_PORT } from "../wire/ports.ts";
import { type CgroupTree, openCgroups } from "./cgroups/cgroup-tree.ts";
import { SYSTEM_CLOCK } from "./clock.ts";
import { Compartments } from "./compartments.ts";
import type { GatewayDescriptors } from "./gateway-command.ts";
import { keepTellingAlive, notifyReady, notifyRefusal, SUPERVISOR_REFUSED_STATUS } from "./init-notice.ts";
import {
  attestationSettings,
  commandOfGateway,
  commandOfNsmDevice,
  commandOfRaServer,
  nodeCommand,
} from "./own-commands.ts";
import { makeOutputPipes } from "./output-pipes.ts";
import { assertOneUser } from "./reloader.ts";
import { type SessionSettings, Supervisor } from "./supervisor.ts";
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
  readonly raServer: string;
  /** Program that makes the device of a development enclave. */
  readonly nsmDevice: string;
  /** /dev/nsm */
  readonly nsm: string;
  readonly logDirectory: string;
  readonly uidMap: string;
  /** Bundle of archive/archive-main.ts. */
  readonly archive: string;
  /** Folder of everything that the enclave keeps while it runs. */
  readonly runDirectory: string;
  /** Where the supervisor makes the socket of session streams. */
  readonly streamDirectory: string;
  /** Where the gateway makes its socket for initctl. */
  readonly controlDirectory: string;
  /** File in which the kernel describes this process. */
  readonly processStatus: string;
  /** Where cgroups are mounted. */
  readonly cgroups: string;
  /** File with the first port that needs no capability. */
  readonly lowPorts: string;
  /** Where the system call filters of services are made. */
  readonly filterDirectory: string;
}

export interface BootOptions {
  /** `--generation N --previous-exit TEXT`; anything else is ignored. */
  readonly arguments: readonly string[];
  readonly layout: BootLayout;
  /** Descriptor of the directory of vsock sockets; undefined where vsock is AF_VSOCK. */
  readonly vsockDirectoryFd: number | undefined;
  readonly notifyFd: number;
  readonly heldSockets: GatewayDescriptors["held"];
  /** uid and gid of the gateway. */
  readonly gatewayId: number;
  /** uid and gid of the attestation server. */
  readonly raServerId: number;
  readonly pid: number;
  readonly architecture: "x64" | "arm64";
  readonly log: Log;
  /** Calls the handler when the machine is to end. */
  readonly onStopSignal: (handler: (name: string) => void) => void;
}

/** Runs until the ordered end. @returns the exit status: 0, or 78 if this image cannot be run here. */
export async function runSupervisor(options: BootOptions): Promise<number> {
  const ended = new AbortController();
  let supervisor: Supervisor;
  try {
    supervisor = await prepareSupervisor(options);
    options.onStopSignal((name) => supervisor.shutDown(name));
    keepTellingAlive(options.notifyFd, ended.signal);
    await supervisor.start();
  } catch (error) {
    ended.abort();
    const refusal = toKitError(error);
    options.log.error("this image cannot be run here", { code: refusal.code, reason: refusal.message });
    await notifyRefusal(options.notifyFd, refusal);
    return SUPERVISOR_REFUSED_STATUS;
  }
  await supervisor.ended.finally(() => ended.abort());
  return 0;
}

async function prepareSupervisor(options: BootOptions): Promise<Supervisor> {
  const { layout, log, pid, vsockDirectoryFd } = options;
  const configBytes = await readBounded(layout.config);
  const config = decodeEnclaveConfig(configBytes);
  const setIdentity = countUids(await readFile(layout.uidMap, "utf8")) > 1;
  if (!setIdentity) assertOneUser(config);
  await prepareGuestFolder(options, setIdentity);
  if (vsockDirectoryFd === undefined) await claimNsm(options);
  await openLowPorts(layout.lowPorts, log);
  await makePassable(layout.runDirectory);
  const logDirectory = await makeLogDirectory(layout.logDirectory, log);
  const { pipeDirectory: directory, serviceExec } = layout;
  const makePipes = async (services: readonly ServiceConfig[]): Promise<string | undefined> =>
    await makeOutputPipes({ directory, services, serviceExec, setIdentity, log });
  const { filterDirectory } = layout;
  const { architecture } = options;
  const openTree = async (): Promise<CgroupTree> => await openCgroups({ root: layout.cgroups, log });
  let pipeDirectory: string | undefined;
  return new Supervisor({
    config,
    compartments: new Compartments({ openTree, filterDirectory, architecture, setIdentity }),
    pipeDirectory: () => pipeDirectory,
    preparePipes: async (services) => void (pipeDirectory = await makePipes(services)),
    sessions: await sessionSettings(options, setIdentity),
    controlSocket: join(layout.controlDirectory, "control.sock"),
    ...readArguments(options.arguments),
    pid,
    serviceExec,
    setIdentity,
    gateway: await commandOfGateway(options, setIdentity),
    nsmDevice: {
      command: commandOfNsmDevice(options, config),
      path: layout.nsm,
    },
    attestation: {
      command: await commandOfRaServer(options, setIdentity),
      settings: attestationSettings(config, configBytes),
    },
    ...(logDirectory === undefined ? {} : { logDirectory }),
    clock: SYSTEM_CLOCK,
    random: Math.random,
    log,
    onReady: () => void notifyReady(options.notifyFd),
  });
}

/**
 * Folders of the two sockets between the programs of the enclave: one that the gateway connects to, one that it makes.
 * Services see neither: /run/enclave is covered for them.
 */
async function sessionSettings(
  { layout, gatewayId }: BootOptions,
  setIdentity: boolean,
): Promise<SessionSettings> {
  const owner = setIdentity ? { uid: gatewayId, gid: gatewayId } : undefined;
  await mkdir(layout.streamDirectory, { recursive: true, mode: 0o711 });
  await mkdir(layout.controlDirectory, { recursive: true, mode: 0o700 });
  if (owner !== undefined) await chown(layout.controlDirectory, owner.uid, owner.gid);
  return {
    streamSocket: join(layout.streamDirectory, "session.sock"),
    streamOwner: owner,
    archiveProgram: await nodeCommand(layout, "archive", layout.archive),
    accounts: { passwd: "/etc/passwd", group: "/etc/group" },
    capabilities: heldCapabilities(await readFile(layout.processStatus, "utf8")),
  };
}

/** Numbers of the capabilities that this process has; it can give no others. */
function heldCapabilities(status: string): readonly number[] {
  const set = BigInt(`0x${/^CapPrm:\s+([0-9a-f]{1,16})$/m.exec(status)?.[1] ?? "0"}`);
  return Array.from({ length: 64 }, (_item, number) => number).filter(
    (number) => ((set >> BigInt(number)) & 1n) === 1n,
  );
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

/**
 * The gateway makes its sockets in the folder; they take the folder's group, which is that of the host's user, so that
 * the runner may connect and nobody else. Of the directory itself the gateway may only pass through.
 */
async function prepareGuestFolder(options: BootOptions, setIdentity: boolean): Promise<void> {
  if (options.vsockDirectoryFd === undefined) return;
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
    await giveHostSocket(directory, VSOCK_PORT.egress, options.gatewayId);
    await giveHostSocket(directory, VSOCK_PORT.developmentNsm, options.raServerId);
  } catch (error) {
    if (!isErrno(error)) throw error;
    const message = `no usable vsock directory on descriptor ${options.vsockDirectoryFd}: ${error.code ?? ""}`;
    throw new KitError("E_ENCLAVE_VSOCK", message, { cause: error });
  }
}

/** A socket of the host for one process alone. A host that hears no egress lets nobody out. */
async function giveHostSocket(directory: string, port: number, id: number): Promise<void> {
  try {
    await chown(`${directory}/${hostListenerName(port)}`, id, id);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

/** The gateway has sockets below it, and may not list it. */
async function makePassable(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await chmod(directory, 0o711);
}

/** The network is the enclave's own and has loopback alone, so its low ports guard nothing but the gateway's few. */
async function openLowPorts(path: string, log: Log): Promise<void> {
  try {
    await writeFile(path, String(FIRST_FREE_PORT));
  } catch (error) {
    log.warn("ports below 1024 need a capability", { reason: toKitError(error).message });
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

/** The kernel lets everybody open it; here it belongs to the attestation server, and to services that may have it. */
async function claimNsm({ layout }: BootOptions): Promise<void> {
  try {
    await chown(layout.nsm, RA_SERVER_ID, NSM_GROUP);
    await chmod(layout.nsm, 0o660);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
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
