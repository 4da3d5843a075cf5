/** `initctl` inside an enclave: talks to the gateway over its Unix socket, which only root may open. */
import type { Socket } from "node:net";

import { KitError } from "../core/errors.ts";
import { openSocket } from "../core/open-socket.ts";
import { Terminal } from "../core/terminal.ts";
import { ControlClient } from "./control-client.ts";
import { createInitctlProgram, type InitctlFlags } from "./initctl-program.ts";
import { runProgram } from "./run-program.ts";

const VERSION = "0.1.0";
const SOCKET = "/run/enclave/control/control.sock";

const interrupted = new AbortController();
const program = createInitctlProgram({
  version: VERSION,
  isHost: false,
  getContext: () => ({
    terminal: openTerminal(),
    interrupted: interrupted.signal,
    connect: async () => new ControlClient(dialGateway),
  }),
});

function openTerminal(): Terminal {
  const { color, verbose } = program.opts<InitctlFlags>();
  const colours = color && !process.env["NO_COLOR"];
  return new Terminal({ stdout: process.stdout, stderr: process.stderr, colours, verbose: verbose === true });
}

async function dialGateway(signal: AbortSignal): Promise<Socket> {
  try {
    return await openSocket({ path: SOCKET, allowHalfOpen: true }, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    const message = `the control API does not answer at ${SOCKET}`;
    throw new KitError("E_BACKEND_CONNECT", message, {
      cause: error,
      hint: "Run initctl as root of an enclave in development mode; while the gateway restarts, try again.",
    });
  }
}

await runProgram({ program, interrupted, openTerminal, words: process.argv });
process.exit();
