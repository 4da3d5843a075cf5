import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { Writable } from "node:stream";

import { runExec } from "../control/exec-session.ts";
import { type BenchEnclave, openBenchEnclave } from "./operate-enclave.ts";
import { median, print, runPipeline } from "./pipeline-process.ts";

const ROUNDS = 50;
const CLI_ROUNDS = 9;

/** A command in a running enclave, from request to exit status, beside the same command in a new bubblewrap sandbox. */
export async function measureExec(): Promise<void> {
  await using enclave = await openBenchEnclave();
  const ours: number[] = [];
  const confined: number[] = [];
  const bwrap: number[] = [];
  const cli: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    ours.push(await timeExec(enclave, undefined));
    confined.push(await timeExec(enclave, "idle"));
    bwrap.push(timeBubblewrap(enclave.tree));
  }
  for (let round = 0; round < CLI_ROUNDS; round += 1) cli.push(timeCli(enclave));
  const peer = median(bwrap);
  const line = (what: string, value: number): void =>
    print(`exec: ${what} ${value.toFixed(1)} ms, ratio ${(value / peer).toFixed(1)}`);
  print(`exec: bwrap --unshare-all true ${peer.toFixed(1)} ms`);
  line("control API, true as root", median(ours));
  line("control API, true as a confined service", median(confined));
  line("pipeline exec NAME -- true (a new Node)", median(cli));
}

async function timeExec({ client }: BenchEnclave, service: string | undefined): Promise<number> {
  const start = performance.now();
  const nowhere = (): Writable => new Writable({ write: (_chunk, _encoding, done) => done() });
  const request = { command: ["true"], ...(service === undefined ? {} : { service }) };
  const signal = AbortSignal.timeout(10_000);
  const ended = await runExec(client, request, { stdout: nowhere(), stderr: nowhere(), signal });
  if (ended.exitCode !== 0) throw new Error(`exec true: ${ended.reason ?? ""}`);
  return performance.now() - start;
}

function timeBubblewrap(tree: string): number {
  const start = performance.now();
  const words = [
    "--unshare-all",
    "--die-with-parent",
    "--ro-bind",
    tree,
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
  ];
  const { status, stderr } = spawnSync(join(tree, "usr", "bin", "bwrap"), [...words, "/usr/bin/true"], {
    env: { LD_LIBRARY_PATH: join(tree, "usr", "lib", "x86_64-linux-gnu") },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`bwrap: ${stderr}`);
  return performance.now() - start;
}

function timeCli({ stateDir }: BenchEnclave): number {
  const start = performance.now();
  runPipeline(stateDir, ["exec", "bench", "--", "true"]);
  return performance.now() - start;
}
