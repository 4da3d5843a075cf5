import { spawn } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { createServer, connect, type Socket } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type BenchEnclave, openBenchEnclave } from "./operate-enclave.ts";
import { descendants, memoryKib, print, runPipeline } from "./pipeline-process.ts";

const MIB = 1024 ** 2;
const SIZE_MIB = 1024;

/** One file of 1 GiB into the enclave and out of it, beside `cat FILE` over a Unix socket to a file. */
export async function measureCopy(): Promise<void> {
  await using enclave = await openBenchEnclave();
  const directory = await mkdtemp(join(tmpdir(), "copy-"));
  try {
    const file = join(directory, "file");
    await writeRandom(file);
    const peerMs = await timeCat(file, join(directory, "by-cat"));
    print(`copy: cat over a Unix socket ${rate(peerMs)}`);
    const inMs = timeCopy(enclave, [file, "bench:/root/file"]);
    print(`copy: into the enclave ${rate(inMs)}, ratio ${(inMs / peerMs).toFixed(1)}`);
    const outMs = timeCopy(enclave, ["bench:/root/file", join(directory, "back")]);
    print(`copy: out of the enclave ${rate(outMs)}, ratio ${(outMs / peerMs).toFixed(1)}`);
    if ((await stat(join(directory, "back"))).size !== SIZE_MIB * MIB) throw new Error("copy: sizes differ");
    for (const { pid, command } of descendants(enclave.runnerPid)) {
      const name = /supervisor\.mjs|gateway\.mjs/.exec(command)?.[0];
      if (name !== undefined) print(`copy: ${name} afterwards ${(memoryKib(pid).rss / 1024).toFixed(0)} MiB`);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
}

function rate(elapsedMs: number): string {
  return `${((SIZE_MIB / elapsedMs) * 1000).toFixed(0)} MiB/s`;
}

async function writeRandom(path: string): Promise<void> {
  await using file = await open(path, "w");
  const block = Buffer.alloc(MIB);
  for (let index = 0; index < SIZE_MIB; index += 1) await file.write(randomFillSync(block));
}

function timeCopy({ stateDir }: BenchEnclave, words: readonly string[]): number {
  const start = performance.now();
  runPipeline(stateDir, ["cp", ...words]);
  return performance.now() - start;
}

/** Two cats, and a socket between them. */
async function timeCat(from: string, to: string): Promise<number> {
  const path = join(tmpdir(), `cat-${process.pid}.sock`);
  await using server = createServer({ pauseOnConnect: true });
  await once(server.listen(path), "listening");
  const sender = connect(path);
  const [receiver]: Socket[] = await once(server, "connection");
  if (receiver === undefined) throw new Error("copy: no connection");
  await using output = await open(to, "w");
  const start = performance.now();
  const reading = spawn("cat", { stdio: [receiver, output.fd, "inherit"] });
  const writing = spawn("cat", [from], { stdio: ["ignore", sender, "inherit"] });
  receiver.destroy();
  sender.destroy();
  await Promise.all([once(reading, "exit"), once(writing, "exit")]);
  return performance.now() - start;
}
