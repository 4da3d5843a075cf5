/** The gateway as a program: started by the supervisor, never by hand. */
import { Socket } from "node:net";

import { createLog } from "../core/log.ts";
import { runGateway } from "./gateway.ts";
import { GATEWAY_FD } from "./gateway-process.ts";
import { guestSocketPath, listenAt } from "./guest-listener.ts";

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
await runGateway({
  supervisor: new Socket({ fd: GATEWAY_FD.supervisor }),
  listenVsock: async (server, port) => await listenAt(server, guestSocketPath(directory, port)),
  log,
  stop: stop.signal,
});
process.exit(0);
