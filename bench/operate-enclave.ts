/** The enclave that the operating benchmarks work in, and the control client to it. */
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ControlClient } from "../control/control-client.ts";
import { dialEnclave } from "../host/controller/enclave-dialer.ts";
import { runPipeline } from "./pipeline-process.ts";

const LINE = "0123456789abcdef".repeat(4);
const ENCLAVE = `name: bench
mode: development
image: { base: { debian: [bubblewrap] } }
resources: { memory: 4GiB }
services:
  idle: { command: [sleep, infinity] }
  loud:
    command: [sh, -c, "[ -e /tmp/go ] || { : > /tmp/go; exit 0; }; exec yes ${LINE}"]
`;

export interface BenchEnclave extends AsyncDisposable {
  readonly stateDir: string;
  readonly client: ControlClient;
  /** Root file system on this host, for programs that are to run outside. */
  readonly tree: string;
  readonly runnerPid: number;
}

export async function openBenchEnclave(): Promise<BenchEnclave> {
  const stateDir = await mkdtemp(join(tmpdir(), "pl-"));
  await chmod(stateDir, 0o755);
  const file = join(stateDir, "enclave.yaml");
  await writeFile(file, ENCLAVE);
  const status = JSON.parse(runPipeline(stateDir, ["up", file, "-d", "--json"]));
  const request = JSON.parse(await readFile(join(stateDir, "enclaves", "bench", "request.json"), "utf8"));
  return {
    stateDir,
    client: new ControlClient(await dialEnclave(stateDir, "bench")),
    tree: String(request.plan.tree),
    runnerPid: Number(status.runner.pid),
    [Symbol.asyncDispose]: async () => {
      runPipeline(stateDir, ["down", "--all"]);
      await rm(stateDir, { recursive: true });
    },
  };
}
