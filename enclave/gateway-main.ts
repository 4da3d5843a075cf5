/** The gateway as a program: started by the supervisor, never by hand. */
import { Socket } from "node:net";

import { createLog } from "../core/log.ts";
import { loadAddon } from "../native/addon.ts";
import { RUNTIME } from "../wire/runtime-layout.ts";
import { runGateway } from "./gateway.ts";
import { GATEWAY_FD } from "./gateway-process.ts";
import { listenInDirectory, listenOnVsock } from "./guest-listener.ts";
import { isDirectory } from "./vsock-form.ts";

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

const listenVsock = (await isDirectory(GATEWAY_FD.vsockDirectory))
  ? listenInDirectory(`/proc/self/fd/${GATEWAY_FD.vsockDirectory}`)
  : listenOnVsock(loadAddon(RUNTIME.addon));
await runGateway({
  supervisor: new Socket({ fd: GATEWAY_FD.supervisor }),
  listenVsock,
  log,
  stop: stop.signal,
});
process.exit(0);
