import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  firstAnswerMs,
  freePort,
  HELLO,
  median,
  print,
  ROOT,
  runPipeline,
  startPipeline,
} from "./pipeline-process.ts";

const ROUNDS = 9;
const LIMIT_RATIO = 8;

/** Warm `up` (image built) from the start of the command line's process to the first answer of hello. */
export async function measureStartup(): Promise<void> {
  const stateDir = await mkdtemp(join(tmpdir(), "pl-"));
  const bare: number[] = [];
  const up: number[] = [];
  try {
    await timeUp(stateDir); // builds the image if needed
    for (let round = 0; round < ROUNDS; round += 1) {
      bare.push(await timeBare());
      up.push(await timeUp(stateDir));
    }
  } finally {
    runPipeline(stateDir, ["down", "--all"]);
    await rm(stateDir, { recursive: true });
  }
  const ratio = median(up) / median(bare);
  print(
    `startup: bare node server.js ${median(bare).toFixed(0)} ms, warm up ${median(up).toFixed(0)} ms, ratio ${ratio.toFixed(1)} (at most ${LIMIT_RATIO})`,
  );
}

async function timeBare(): Promise<number> {
  const port = await freePort();
  const start = performance.now();
  const server = spawn(process.execPath, [join(ROOT, "examples", "hello", "app", "server.js")], {
    stdio: "ignore",
    env: { PORT: String(port) },
  });
  const elapsed = (await firstAnswerMs(port)) - start;
  server.kill("SIGKILL");
  return elapsed;
}

async function timeUp(stateDir: string): Promise<number> {
  const port = await freePort();
  const start = performance.now();
  const child = startPipeline(stateDir, ["up", HELLO, "-d", "-p", `127.0.0.1:${port}:8080`]);
  const elapsed = (await firstAnswerMs(port)) - start;
  await new Promise((resolve) => child.once("exit", resolve));
  runPipeline(stateDir, ["down", "hello"]);
  return elapsed;
}
