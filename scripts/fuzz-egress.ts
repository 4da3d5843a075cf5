/**
 * Changes valid messages of everything that egress reads from strangers:
 * node scripts/fuzz-egress.ts [--target client-hello|http|socks|connect|preface|dns] [--cases N] [--seed S]
 * Without a target all, each with as many cases. The same seed gives the same cases; a failure is an exception.
 */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import type { FuzzCase } from "./egress-fuzz/fuzz-target.ts";
import { runHelloCase, runHttpCase } from "./egress-fuzz/inspector-cases.ts";
import { createDnsCase, runPrefaceCase } from "./egress-fuzz/message-cases.ts";
import { runConnectCase, runSocksCase } from "./egress-fuzz/proxy-cases.ts";
import { RandomSource } from "./vsock-fuzz/random-source.ts";

const TARGETS: Readonly<Record<string, FuzzCase>> = {
  "client-hello": runHelloCase,
  http: runHttpCase,
  socks: runSocksCase,
  connect: runConnectCase,
  preface: runPrefaceCase,
  dns: await createDnsCase(),
};

const { values } = parseArgs({
  options: { target: { type: "string" }, cases: { type: "string" }, seed: { type: "string" } },
});
const cases = Number(values.cases ?? 1_000_000);
const seed = Number(values.seed ?? Date.now() % 0xff_ff_ff_ff);
const chosen = Object.entries(TARGETS).filter(
  ([name]) => values.target === undefined || values.target === name,
);
if (chosen.length === 0) throw new RangeError(`--target is one of ${Object.keys(TARGETS).join(", ")}`);

for (const [name, runCase] of chosen) {
  console.log(`${name}: ${cases} cases of seed ${seed}`);
  const start = performance.now();
  const counts = await run(runCase);
  const seconds = (performance.now() - start) / 1000;
  const results = Object.entries(counts).map(([result, count]) => `${result} ${count}`);
  console.log(
    `${name}: ${seconds.toFixed(1)} s, ${Math.round(cases / seconds)} cases/s; ${results.join(", ")}; ` +
      `peak ${await readPeakMib()} MiB`,
  );
}

async function run(runCase: FuzzCase): Promise<Readonly<Record<string, number>>> {
  const random = new RandomSource(seed);
  const counts: Record<string, number> = {};
  for (let index = 0; index < cases; index += 1) {
    const result = await tell(runCase, random, index);
    counts[result] = (counts[result] ?? 0) + 1;
  }
  return counts;
}

async function tell(runCase: FuzzCase, random: RandomSource, index: number): Promise<string> {
  try {
    const result = runCase(random);
    return typeof result === "string" ? result : await result;
  } catch (error) {
    throw new Error(`case ${index} of seed ${seed}`, { cause: error });
  }
}

/** Of the process so far. */
async function readPeakMib(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8");
  return Math.round(Number(/^VmHWM:\s+([0-9]+) kB$/m.exec(status)?.[1]) / 1024);
}
