import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "..");
export const HELLO = join(ROOT, "examples", "hello", "enclave.yaml");
const PIPELINE = join(ROOT, "dist", "pipeline.js");

/** Runs the bundled command line under this Node; throws with its output if it fails. */
export function runPipeline(stateDir: string, words: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [PIPELINE, "--state-dir", stateDir, ...words],
    {
      encoding: "utf8",
    },
  );
  if (status !== 0) throw new Error(`pipeline ${words.join(" ")}: exit ${status}\n${stderr}`);
  return stdout;
}

export function startPipeline(stateDir: string, words: readonly string[]): ChildProcess {
  return spawn(process.execPath, [PIPELINE, "--state-dir", stateDir, ...words], { stdio: "ignore" });
}

/** Asks for / over a fresh connection until a full answer comes; resolves with the time it came, in ms. */
export async function firstAnswerMs(port: number, deadlineMs = 60_000): Promise<number> {
  const end = performance.now() + deadlineMs;
  while (performance.now() < end) {
    if (await answers(port)) return performance.now();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`no answer on port ${port}`);
}

function answers(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, "127.0.0.1", () => socket.write("GET / HTTP/1.0\r\n\r\n"));
  let text = "";
  socket.on("data", (chunk) => (text += chunk.toString("latin1")));
  socket.once("error", () => resolve(false));
  socket.once("close", () => resolve(text.includes(" 200 ")));
  return promise;
}

export async function freePort(): Promise<number> {
  await using server = createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Resident memory of a process in KiB: proportional set size, so that shared pages are counted once. */
export function memoryKib(pid: number): { readonly rss: number; readonly pss: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
  return { rss: field("Rss"), pss: field("Pss") };
}

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** Every process below `root`. */
export function descendants(root: number): ProcessInfo[] {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readProcess(Number(name)));
  const below = (pid: number): ProcessInfo[] =>
    all.filter((one) => one.parent === pid).flatMap((one) => [one, ...below(one.pid)]);
  return below(root);
}

function readProcess(pid: number): ProcessInfo[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    return [{ pid, parent: Number(/^\d+ \(.*\) \S (\d+)/s.exec(stat)?.[1] ?? 0), command }];
  } catch {
    return []; // ended between the listing and the reading
  }
}

/** False for a zombie too: it only waits to be reaped. */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
