/** The gateway as a program: started by the supervisor, never by hand. */
import { Socket } from "node:net";

import { createLog } from "../core/log.ts";
import { loadAddon, type NativeAddon } from "../native/addon.ts";
import { RUNTIME } from "../wire/runtime-layout.ts";
import { runGateway } from "./gateway.ts";
import { GATEWAY_FD } from "./gateway-command.ts";
import { dialInDirectory, dialOnVsock } from "../native/guest-dialer.ts";
import { listenInDirectory, listenOnVsock } from "../native/guest-listener.ts";
import { isDirectory } from "../native/vsock-form.ts";

const log = createLog({
  write: (line) => process.stderr.write(line),
  now: () => Date.now(),
  fields: { program: "gateway" },
});
process.on("unhandledRejection", (error) => {
  log.error("a fault of the gateway", { reason: error instanceof Error ? error.stack : String(error) });
  process.exit(1);
});
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

const directory = `/proc/self/fd/${GATEWAY_FD.vsockDirectory}`;
const openAddon = (): NativeAddon => loadAddon(RUNTIME.addon);
const vsock = (await isDirectory(GATEWAY_FD.vsockDirectory))
  ? { listenVsock: listenInDirectory(directory), dialVsock: dialInDirectory(directory) }
  : useVsock(openAddon());
await runGateway({
  supervisor: new Socket({ fd: GATEWAY_FD.supervisor }),
  ...vsock,
  openAddon,
  heldSocketsFd: GATEWAY_FD.heldSockets,
  log,
  stop: stop.signal,
});
process.exit(0);

function useVsock(addon: NativeAddon) {
  return { listenVsock: listenOnVsock(addon), dialVsock: dialOnVsock(addon) };
}
