/** The host's own AF_VSOCK, for enclaves on the hardware. */
import type { NativeAddon } from "../../../native/addon.ts";
import { connectVsock, listenVsock } from "../../../native/vsock-sockets.ts";
import type { NitroDialer } from "./nitro-ports.ts";

export function createVsockDialer(addon: NativeAddon): NitroDialer {
  return {
    connect: async (cid, port, signal) => await connectVsock({ cid, port }, { addon, signal }),
    listen: async (port, onConnection) => await Promise.resolve(listenVsock(port, { addon, onConnection })),
  };
}
