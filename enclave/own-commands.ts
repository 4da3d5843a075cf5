/** The command lines, descriptors and settings of the toolkit's own processes inside an enclave. */
import { createHash } from "node:crypto";
import { access } from "node:fs/promises";

import { isErrno } from "../core/errors.ts";
import { guestSocketPath, GUEST_SOCKET_MODE } from "../native/guest-listener.ts";
import type { AttestationServerSettings } from "../wire/attestation-server.ts";
import type { EnclaveConfig } from "../wire/enclave-config.ts";
import { VSOCK_PORT } from "../wire/ports.ts";
import { NSM_DEVICE_ID, NSM_GROUP, RA_SERVER_ID } from "../wire/runtime-layout.ts";
import type { BootLayout, BootOptions } from "./boot.ts";
import { gatewayCommand, type GatewayCommand } from "./gateway-command.ts";
import { holdUnixSocket } from "./held-sockets.ts";
import type { OwnCommand } from "./own-process.ts";

/** Garbage of busy streams is collected early: it halves the resident memory under load and costs little. */
const NODE_FLAGS = ["--max-semi-space-size=2"];

export async function commandOfGateway(options: BootOptions, setIdentity: boolean): Promise<GatewayCommand> {
  const { layout, gatewayId, vsockDirectoryFd, heldSockets: held } = options;
  return gatewayCommand(
    { vsockDirectory: vsockDirectoryFd ?? null, held },
    {
      command: await nodeCommand(layout, "gateway", layout.gateway),
      ...identityOf(gatewayId, setIdentity),
    },
  );
}

export async function commandOfRaServer(options: BootOptions, setIdentity: boolean): Promise<OwnCommand> {
  const { layout, raServerId, vsockDirectoryFd } = options;
  return {
    command: await nodeCommand(layout, "ra-server", layout.raServer),
    ...identityOf(raServerId, setIdentity),
    descriptors: [vsockDirectoryFd ?? null, await attestationSocket(vsockDirectoryFd)],
  };
}

/** Only where a kernel of the enclave's own could make the device, and never in the place of the hypervisor's. */
export function commandOfNsmDevice(
  { layout, vsockDirectoryFd }: BootOptions,
  { attestation }: EnclaveConfig,
): OwnCommand | null {
  if (attestation !== "development" || vsockDirectoryFd !== undefined) return null;
  const id = String(NSM_DEVICE_ID);
  const words = ["--uid", id, "--gid", id, "--owner", `${RA_SERVER_ID}:${NSM_GROUP}`];
  return { command: [layout.nsmDevice, ...words], descriptors: [] };
}

/** In the local form the supervisor makes the socket: the folder is the gateway's. */
async function attestationSocket(vsockDirectoryFd: number | undefined): Promise<number | null> {
  if (vsockDirectoryFd === undefined) return null;
  const directory = `/proc/self/fd/${vsockDirectoryFd}`;
  return await holdUnixSocket(guestSocketPath(directory, VSOCK_PORT.attestation), GUEST_SOCKET_MODE);
}

function identityOf(id: number, setIdentity: boolean): Pick<OwnCommand, "identity"> {
  return setIdentity ? { identity: { uid: id, gid: id } } : {};
}

/** Where nobody says otherwise, all that it knows is measured. */
export function attestationSettings(config: EnclaveConfig, bytes: Uint8Array): AttestationServerSettings {
  const { name, mode, attestation: provider, clientCa, build } = config;
  const digest = createHash("sha256").update(bytes).digest("hex");
  return { name, mode, provider, clientCa, image: { ...build, config: digest } };
}

/** Node with the libraries that the toolkit brings, where it brings some. */
export async function nodeCommand(
  layout: BootLayout,
  name: string,
  program: string,
): Promise<readonly string[]> {
  const { loader, libraries, node } = layout;
  const prefix = (await exists(loader))
    ? [loader, "--library-path", libraries, "--argv0", name, node]
    : [node];
  return [...prefix, ...NODE_FLAGS, program];
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
