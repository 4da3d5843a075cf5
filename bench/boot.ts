import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { readFileSync } from "node:fs";

import {
  descendants,
  firstAnswerMs,
  freePort,
  HELLO,
  median,
  print,
  runPipeline,
  startPipeline,
} from "./pipeline-process.ts";

const ROUNDS = 5;

interface Stages {
  readonly qemu: number;
  readonly kernel: number;
  readonly supervisor: number;
  readonly answer: number;
}

/** `up --backend qemu` of hello, image built: the stages of the boot, and QEMU's memory beyond the guest's. */
export async function measureBoot(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "boot-"));
  try {
    await cp(dirname(HELLO), join(directory, "hello"), { recursive: true });
    const yaml = join(directory, "hello", "enclave.yaml");
    const bed = { stateDir: join(directory, "s"), yaml };
    await boot(bed); // the image is built once
    const rounds: Stages[] = [];
    for (let round = 0; round < ROUNDS; round += 1) rounds.push(await boot(bed));
    for (const stage of ["qemu", "kernel", "supervisor", "answer"] as const)
      print(`boot: ${stage} after ${median(rounds.map((one) => one[stage])).toFixed(0)} ms`);
  } finally {
    await rm(directory, { recursive: true });
  }
}

interface Bed {
  readonly stateDir: string;
  readonly yaml: string;
}

async function boot({ stateDir, yaml }: Bed): Promise<Stages> {
  const port = await freePort();
  const start = performance.now();
  const startedAt = Date.now();
  const words = ["up", yaml, "--backend", "qemu", "-d", "-p", `127.0.0.1:${port}:8080`];
  const up = startPipeline(stateDir, words);
  const ended = new Promise((resolve) => up.once("exit", resolve));
  const answer = (await firstAnswerMs(port, 120_000)) - start;
  await ended;
  const lines = runPipeline(stateDir, ["logs", "hello", "--json"])
    .split("\n")
    .filter((line) => line !== "")
    .map((line): { time: number; line: string } => JSON.parse(line));
  const [record]: { runner: { pid: number } }[] = JSON.parse(runPipeline(stateDir, ["ps", "--json"]));
  const qemu = descendants(record?.runner.pid ?? 0).findLast(({ command }) => /qemu-system/.test(command));
  const status = readFileSync(`/proc/${qemu?.pid ?? 0}/status`, "utf8");
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0) / 1024;
  print(
    `boot: QEMU beyond the guest's memory: ${(field("RssAnon") + field("RssFile")).toFixed(0)} MiB; of the guest's ${field("RssShmem").toFixed(0)} MiB are touched`,
  );
  runPipeline(stateDir, ["down", "hello"]);
  const timeOf = (text: RegExp): number => (lines.find(({ line }) => text.test(line))?.time ?? 0) - startedAt;
  return {
    qemu: timeOf(/./),
    kernel: timeOf(/Run \/init as init process/),
    supervisor: timeOf(/"program":"supervisor"/),
    answer,
  };
}
