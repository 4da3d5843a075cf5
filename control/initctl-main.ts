/** `initctl` inside an enclave: talks to the gateway over its Unix socket, which only root may open. */
import { connect, type Socket } from "node:net";

import { KitError } from "../core/errors.ts";
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
  const socket = connect({ path: SOCKET, allowHalfOpen: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = (): void => reject(signal.reason);
  socket.once("connect", resolve).once("error", reject);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    await promise;
    socket.off("error", reject);
    return socket;
  } catch (error) {
    socket.destroy();
    if (signal.aborted) throw error;
    const message = `the control API does not answer at ${SOCKET}`;
    throw new KitError("E_BACKEND_CONNECT", message, {
      cause: error,
      hint: "Run initctl as root of an enclave in development mode; while the gateway restarts, try again.",
    });
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

await runProgram({ program, interrupted, openTerminal, words: process.argv });
process.exit();
