import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  descendants,
  HELLO,
  isAlive,
  memoryKib,
  print,
  runPipeline,
  startPipeline,
} from "./pipeline-process.ts";

const ENCLAVES = 20;

/** Starts many hello enclaves at once; each must become healthy; then all go. */
export async function measureMany(): Promise<void> {
  const stateDir = await mkdtemp(join(tmpdir(), "pl-"));
  try {
    runPipeline(stateDir, ["up", HELLO, "-d", "-p", "127.0.0.1:0:8080"]); // the image is built once
    runPipeline(stateDir, ["down", "hello"]);
    const start = performance.now();
    const ends = await Promise.all(
      Array.from({ length: ENCLAVES }, (_, index) => upOne(stateDir, `hello-${index}`)),
    );
    const elapsed = performance.now() - start;
    const records: { state: string; runner: { pid: number } }[] = JSON.parse(
      runPipeline(stateDir, ["ps", "--json"]),
    );
    const running = records.filter((record) => record.state === "running").length;
    const pids = records.flatMap((record) => [
      record.runner.pid,
      ...descendants(record.runner.pid).map((one) => one.pid),
    ]);
    const pssMib = pids.reduce((sum, pid) => sum + memoryKib(pid).pss, 0) / 1024;
    print(
      `many: ${running} of ${ENCLAVES} running (${ends.filter((status) => status === 0).length} commands succeeded) in ${(elapsed / 1000).toFixed(1)} s`,
    );
    print(
      `many: ${(elapsed / ENCLAVES).toFixed(0)} ms and ${(pssMib / ENCLAVES).toFixed(1)} MiB (proportional) an enclave`,
    );
    const downStart = performance.now();
    runPipeline(stateDir, ["down", "--all"]);
    const left = pids.filter((pid) => isAlive(pid)).length;
    print(
      `many: down --all in ${((performance.now() - downStart) / 1000).toFixed(1)} s, ${left} processes left`,
    );
  } finally {
    runPipeline(stateDir, ["down", "--all"]);
    await rm(stateDir, { recursive: true });
  }
}

function upOne(stateDir: string, name: string): Promise<number | null> {
  const child = startPipeline(stateDir, ["up", HELLO, "-d", "--name", name, "-p", "127.0.0.1:0:8080"]);
  return new Promise((resolve) => child.once("exit", (status) => resolve(status)));
}
