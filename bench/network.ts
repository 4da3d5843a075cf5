/** Through egress and ingress of a `local` enclave, beside HAProxy in TCP mode and socat, in the same run. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import type { LoadResult } from "./network-load.ts";
import { startPeers } from "./network-peers.ts";
import { freePort, median, print, ROOT, runPipeline } from "./pipeline-process.ts";

const run = promisify(execFile);
const LOAD = join(ROOT, "bench", "network-load.ts");
const ROUNDS = 3;
const INSIDE_PORT = 7100;

interface Path {
  readonly name: string;
  readonly measure: () => Promise<LoadResult>;
}

export async function measureNetwork(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "bench-network-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  await chmod(directory, 0o755);
  const serverPort = await startServer(stack);
  const peers = await startPeers(stack, directory, serverPort);
  const ingressPort = await startEnclave(stack, directory, serverPort);
  const fromHost = (port: number) => async () => await load([process.execPath, LOAD], "127.0.0.1", port);
  const fromInside = (host: string) => async () => await loadInside(join(directory, "state"), host);
  const paths: Path[] = [
    { name: "direct", measure: fromHost(serverPort) },
    { name: "egress", measure: fromInside("plain.test") },
    { name: "egress, inspected", measure: fromInside("looked.test") },
    { name: "ingress", measure: fromHost(ingressPort) },
    ...peers.map(({ name, port }) => ({ name, measure: fromHost(port) })),
  ];
  const results = new Map<string, LoadResult[]>(paths.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round += 1)
    for (const { name, measure } of paths) results.get(name)?.push(await measure());
  report(new Map([...results].map(([name, all]) => [name, medians(all)])));
}

async function startServer(stack: AsyncDisposableStack): Promise<number> {
  const child = spawn(process.execPath, [LOAD, "serve", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  stack.defer(() => void child.kill());
  const [line]: unknown[] = await once(child.stdout, "data");
  return Number(String(line));
}

async function startEnclave(
  stack: AsyncDisposableStack,
  directory: string,
  serverPort: number,
): Promise<number> {
  await mkdir(join(directory, "app"));
  await copyFile(LOAD, join(directory, "app", "load.ts"));
  const port = await freePort();
  const rule = (host: string, tls: string): string =>
    `{ host: ${host}, port: 7000, tls: ${tls}, connect_to: "127.0.0.1:${serverPort}" }`;
  const yaml = `name: network
mode: development
image: { base: { debian: [] }, copy: [{ from: ./app, to: /app }] }
services: { server: { command: [node, /app/load.ts, serve, "${INSIDE_PORT}"], healthcheck: { tcp: ${INSIDE_PORT} } } }
ports: ["127.0.0.1:${port}:${INSIDE_PORT}"]
egress: [${rule("plain.test", "off")}, ${rule("looked.test", "optional")}]
local: { single_user: true }
`;
  await writeFile(join(directory, "enclave.yaml"), yaml);
  const state = join(directory, "state");
  runPipeline(state, ["up", join(directory, "enclave.yaml"), "-d"]);
  stack.defer(() => void runPipeline(state, ["down", "network"]));
  return port;
}

async function load(program: readonly string[], host: string, port: number): Promise<LoadResult> {
  const [first = "", ...rest] = program;
  const { stdout } = await run(first, [...rest, "load", host, String(port)]);
  return readResult(JSON.parse(stdout));
}

async function loadInside(state: string, host: string): Promise<LoadResult> {
  const words = ["--state-dir", state, "exec", "-s", "server", "network", "--", "node", "/app/load.ts"];
  return await load([process.execPath, join(ROOT, "dist", "pipeline.js"), ...words], host, 7000);
}

function readResult(value: unknown): LoadResult {
  const fields = new Map(Object.entries(Object(value)));
  return mapKeys((key) => Number(fields.get(key)));
}

function medians(all: readonly LoadResult[]): LoadResult {
  return mapKeys((key) => median(all.map((one) => one[key])));
}

function mapKeys(of: (key: keyof LoadResult) => number): LoadResult {
  return {
    throughput1: of("throughput1"),
    throughput8: of("throughput8"),
    roundTripP50: of("roundTripP50"),
    roundTripP99: of("roundTripP99"),
    freshP50: of("freshP50"),
    freshP99: of("freshP99"),
    rate1: of("rate1"),
    rate32: of("rate32"),
  };
}

function report(results: ReadonlyMap<string, LoadResult>): void {
  print(
    "network: MiB/s with 1 and 8 connections; round trip p50/p99 ms; first byte p50/p99 ms; connections/s 1 and 32 at once",
  );
  for (const [name, one] of results) {
    const parts = [
      `${one.throughput1.toFixed(0)} ${one.throughput8.toFixed(0)}`,
      `${one.roundTripP50.toFixed(3)}/${one.roundTripP99.toFixed(3)}`,
      `${one.freshP50.toFixed(2)}/${one.freshP99.toFixed(2)}`,
      `${one.rate1.toFixed(0)} ${one.rate32.toFixed(0)}`,
    ];
    print(`network: ${name.padEnd(18)} ${parts.join("  |  ")}`);
  }
  for (const ours of ["egress", "egress, inspected", "ingress"])
    for (const peer of ["HAProxy twice", "socat twice", "HAProxy", "socat"])
      reportRatios(results, ours, peer);
}

/** Above one: ours is better. */
function reportRatios(results: ReadonlyMap<string, LoadResult>, name: string, peer: string): void {
  const [ours, theirs] = [results.get(name), results.get(peer)];
  if (ours === undefined || theirs === undefined) return;
  const more = (key: keyof LoadResult): string => (ours[key] / theirs[key]).toFixed(2);
  const less = (key: keyof LoadResult): string => (theirs[key] / ours[key]).toFixed(2);
  print(
    `network: ${name} beside ${peer}: throughput ${more("throughput1")} ${more("throughput8")}, round trip ${less("roundTripP50")}/${less("roundTripP99")}, first byte ${less("freshP50")}/${less("freshP99")}, connections ${more("rate1")} ${more("rate32")}`,
  );
}
