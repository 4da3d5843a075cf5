import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { get } from "node:http";
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
  const up: UpTimes[] = [];
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
  const upMs = median(up.map((one) => one.totalMs));
  const ratio = upMs / median(bare);
  print(
    `startup: bare node server.js ${median(bare).toFixed(0)} ms, warm up ${upMs.toFixed(0)} ms, ratio ${ratio.toFixed(1)} (at most ${LIMIT_RATIO})`,
  );
  for (const name of up[0]?.stages.keys() ?? []) {
    print(`startup:   ${median(up.map((one) => one.stages.get(name) ?? 0)).toFixed(0)} ms ${name}`);
  }
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

interface UpTimes {
  readonly totalMs: number;
  /** Milliseconds from the start of the command to each stage. */
  readonly stages: ReadonlyMap<string, number>;
}

async function timeUp(stateDir: string): Promise<UpTimes> {
  const port = await freePort();
  const start = performance.now();
  const startTime = performance.timeOrigin + start;
  const child = startPipeline(stateDir, ["up", HELLO, "-d", "-p", `127.0.0.1:${port}:8080`]);
  const totalMs = (await firstAnswerMs(port)) - start;
  await new Promise((resolve) => child.once("exit", resolve));
  const stages = await readStages(stateDir, startTime);
  runPipeline(stateDir, ["down", "hello"]);
  return { totalMs, stages };
}

/** When the record was made, and what the enclave's own events say; each with the clock of this machine. */
async function readStages(stateDir: string, startTime: number): Promise<Map<string, number>> {
  const { createdAt } = JSON.parse(runPipeline(stateDir, ["status", "hello", "--json"]));
  const stages = new Map([["cli: image found, runner started", Number(createdAt) - startTime]]);
  for (const event of await readEvents(join(stateDir, "enclaves", "hello", "vsock", "guest", "9001"))) {
    const name =
      event.type === "enclave" ? "runner, launcher, init: supervisor runs" : `service ${event.message}`;
    stages.set(name, event.time - startTime);
  }
  return stages;
}

interface BenchEvent {
  readonly type: string;
  readonly message: string;
  readonly time: number;
}

function readEvents(socketPath: string): Promise<BenchEvent[]> {
  const { promise, resolve, reject } = Promise.withResolvers<BenchEvent[]>();
  const request = get({ socketPath, path: "/v1/events" }, (response) => {
    response.once("data", (chunk: Buffer) => {
      resolve(
        chunk
          .toString()
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line)),
      );
      request.destroy();
    });
  });
  request.once("error", reject);
  return promise;
}
