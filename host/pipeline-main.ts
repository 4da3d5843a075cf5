/** `pipeline`: reads environment and arguments, makes the context, runs one command, turns its refusal into an exit status. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { runProgram } from "../control/run-program.ts";
import { Terminal } from "../core/terminal.ts";
import { hintForExec } from "./cli/exec.ts";
import { createProgram, type GlobalFlags } from "./cli/program.ts";
import { findToolkit } from "./machine-toolkit.ts";
import { VERSION } from "./version.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const interrupted = new AbortController();
const program = createProgram({
  version: VERSION,
  getContext: () => ({
    toolkit: findToolkit(process.env, root, program.opts<GlobalFlags>()),
    terminal: openTerminal(),
    interrupted: interrupted.signal,
  }),
});

function openTerminal(): Terminal {
  const { color, verbose } = program.opts<GlobalFlags>();
  const colours = color && !process.env["NO_COLOR"];
  return new Terminal({ stdout: process.stdout, stderr: process.stderr, colours, verbose: verbose === true });
}

await runProgram({ program, interrupted, openTerminal, words: process.argv, hintFor: hintForExec });
process.exit();
