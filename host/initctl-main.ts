/** `initctl` on the host: the control API of one enclave, named by --enclave. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { ControlClient } from "../control/control-client.ts";
import type { InitctlContext } from "../control/initctl/initctl-context.ts";
import { createInitctlProgram, type InitctlFlags } from "../control/initctl-program.ts";
import { runProgram } from "../control/run-program.ts";
import { KitError } from "../core/errors.ts";
import { Terminal } from "../core/terminal.ts";
import { dialEnclave } from "./controller/enclave-dialer.ts";
import { askRunner } from "./controller/runner-client.ts";
import { inspectEnclave, isLive, listEnclaves } from "./controller/inspect.ts";
import { findToolkit } from "./machine-toolkit.ts";
import { VERSION } from "./version.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const interrupted = new AbortController();
const program = createInitctlProgram({ version: VERSION, isHost: true, getContext });

function getContext(): InitctlContext {
  const flags = program.opts<InitctlFlags>();
  const toolkit = findToolkit(process.env, root, flags);
  const findName = async (): Promise<string> => flags.enclave ?? (await refuseNameless(toolkit.stateDir));
  return {
    terminal: openTerminal(),
    interrupted: interrupted.signal,
    connect: async () => new ControlClient(await dialEnclave(toolkit.stateDir, await findName())),
    computeOverrides: async (signal) => {
      const record = await inspectEnclave(toolkit.stateDir, await findName());
      // Building an image is most of this program, and only this command needs it.
      const { computeOverrides } = await import("./controller/reload.ts");
      return await computeOverrides(toolkit, record, signal);
    },
    takeEgress: async (egress, signal) => {
      const name = await findName();
      const put = async (body: unknown): Promise<unknown> =>
        await askRunner(toolkit.stateDir, name, { method: "PUT", path: "/egress", body, signal });
      const before = await put(egress);
      return async () => void (await put(before));
    },
  };
}

async function refuseNameless(stateDir: string): Promise<never> {
  const names = (await listEnclaves(stateDir)).records.filter(isLive).map((record) => record.name);
  throw new KitError("E_USAGE", "initctl on the host needs the name of an enclave", {
    hint:
      names.length === 0
        ? "No enclave runs."
        : `Say which: ${names.map((name) => `--enclave ${name}`).join(" | ")}`,
  });
}

function openTerminal(): Terminal {
  const { color, verbose } = program.opts<InitctlFlags>();
  const colours = color && !process.env["NO_COLOR"];
  return new Terminal({ stdout: process.stdout, stderr: process.stderr, colours, verbose: verbose === true });
}

await runProgram({ program, interrupted, openTerminal, words: process.argv });
process.exit();
