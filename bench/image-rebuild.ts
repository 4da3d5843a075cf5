import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

import { printImageSizes } from "./image-sizes.ts";
import { HELLO, median, print, ROOT } from "./pipeline-process.ts";

const ROUNDS = 5;
const LIMIT_MS = 4000;
const PIPELINE = join(ROOT, "dist", "pipeline.js");
const CACHE = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "enclave-toolkit");
/** What a build on another day finds too: all but images, ramdisks and imported files. */
const KEPT_FOLDERS = ["apt", "blobs", "compiled", "debs", "toolchains", "unpacked-1"];

/** `pipeline build` of hello: nothing changed, one file changed, and with empty caches of images and ramdisks. */
export async function measureRebuild(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "rebuild-"));
  try {
    const bed: Bed = { directory, yaml: join(directory, "hello", "enclave.yaml"), cache: CACHE };
    await cp(dirname(HELLO), join(directory, "hello"), { recursive: true });
    await build(bed);
    report("nothing changed", await repeat(ROUNDS, async () => await build(bed)));
    const changed = await repeat(ROUNDS, async () => {
      await appendFile(join(directory, "hello", "app", "server.js"), "\n");
      return await build(bed);
    });
    report(`one file changed (limit ${LIMIT_MS} ms)`, changed);
    report("full", await repeat(ROUNDS, async () => await buildAnew(bed)));
    await printImageSizes(join(directory, "hello.eif"), join(CACHE, "blobs"));
  } finally {
    await rm(directory, { recursive: true });
  }
}

interface Bed {
  readonly directory: string;
  readonly yaml: string;
  readonly cache: string;
}

/** Lasts of steps in ms, by what the command says when they begin. */
type Steps = ReadonlyMap<string, number>;

const START = "start of the command, lock, toolchain and kernel from the cache";

async function build({ directory, yaml, cache }: Bed): Promise<Steps> {
  const words = ["--state-dir", join(directory, "state"), "--cache-dir", cache, "--verbose", "build", yaml];
  const child = spawn(process.execPath, [PIPELINE, ...words, "-o", join(directory, "hello.eif")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(child, "exit");
  const steps = new Map<string, number>();
  let [step, since] = [START, performance.now()];
  const finish = (next: string): void => {
    const now = performance.now();
    steps.set(step, (steps.get(step) ?? 0) + now - since);
    [step, since] = [next, now];
  };
  for await (const line of createInterface(child.stderr)) finish(line);
  const [status]: unknown[] = await ended;
  finish("");
  if (status !== 0) throw new Error(`rebuild: pipeline build ended with ${String(status)}`);
  return steps;
}

/** With a cache of its own, since others may be using the usual one. */
async function buildAnew(bed: Bed): Promise<Steps> {
  const cache = join(bed.directory, "cache");
  try {
    await mkdir(cache);
    const folders = KEPT_FOLDERS.map((name) => join(bed.cache, name));
    await promisify(execFile)("cp", ["-al", ...folders, cache]).catch(
      async () => await promisify(execFile)("cp", ["-a", ...folders, cache]),
    );
    return await build({ ...bed, cache });
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
}

async function repeat(times: number, measure: () => Promise<Steps>): Promise<Steps[]> {
  const rounds: Steps[] = [];
  for (let round = 0; round < times; round += 1) rounds.push(await measure());
  return rounds;
}

function report(what: string, rounds: readonly Steps[]): void {
  const total = median(rounds.map((steps) => [...steps.values()].reduce((sum, ms) => sum + ms, 0)));
  print(`rebuild: ${what}: ${total.toFixed(0)} ms`);
  for (const step of rounds[0]?.keys() ?? [])
    print(`  ${median(rounds.map((steps) => steps.get(step) ?? 0)).toFixed(0)} ms ${step}`);
}
