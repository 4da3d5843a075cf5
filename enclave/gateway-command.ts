/** How the gateway is started, and which of the supervisor's descriptors it gets. */
import { HELD_SOCKETS, type HeldSocket } from "../wire/supervisor-frames.ts";
import { type OwnCommand, SUPERVISOR_CHANNEL_FD } from "./own-process.ts";

/** From `heldSockets` on those of wire/supervisor-frames.ts HELD_SOCKETS, in their order. */
export const GATEWAY_FD = { supervisor: SUPERVISOR_CHANNEL_FD, vsockDirectory: 4, heldSockets: 5 } as const;

export interface GatewayCommand extends OwnCommand {
  /** Those among the descriptors that are there. */
  readonly heldSockets: readonly HeldSocket[];
}

export interface GatewayDescriptors {
  /** Of the directory of vsock sockets; null where vsock is AF_VSOCK. */
  readonly vsockDirectory: number | null;
  /** Of the sockets that the supervisor lends. */
  readonly held: ReadonlyMap<HeldSocket, number>;
}

export function gatewayCommand(
  { vsockDirectory, held }: GatewayDescriptors,
  rest: Omit<OwnCommand, "descriptors">,
): GatewayCommand {
  return {
    ...rest,
    descriptors: [vsockDirectory, ...HELD_SOCKETS.map((name) => held.get(name) ?? null)],
    heldSockets: [...held.keys()],
  };
}
