/**
 * Changes valid attestation documents and verifies them:
 * node scripts/fuzz-attestation.ts [--target document|payload|certificate] [--cases N] [--seed S]
 * Without a target all, each with as many cases. The same seed gives the same changes (documents are made anew each time);
 * a failure is an exception that is no verdict.
 */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import { createDocumentCases } from "./attestation-fuzz/document-cases.ts";
import type { FuzzCase } from "./egress-fuzz/fuzz-target.ts";
import { RandomSource } from "./vsock-fuzz/random-source.ts";

const { values } = parseArgs({
  options: { target: { type: "string" }, cases: { type: "string" }, seed: { type: "string" } },
});
const cases = Number(values.cases ?? 1_000_000);
const seed = Number(values.seed ?? Date.now() % 0xff_ff_ff_ff);
const targets = await createDocumentCases();
const chosen = Object.entries(targets).filter(
  ([name]) => values.target === undefined || values.target === name,
);
if (chosen.length === 0) throw new RangeError(`--target is one of ${Object.keys(targets).join(", ")}`);

for (const [name, runCase] of chosen) {
  console.log(`${name}: ${cases} cases of seed ${seed}`);
  const start = performance.now();
  const counts = await run(runCase);
  const seconds = (performance.now() - start) / 1000;
  const results = [...counts].map(([result, count]) => `${result} ${count}`);
  console.log(
    `${name}: ${seconds.toFixed(1)} s, ${Math.round(cases / seconds)} cases/s; ${results.join(", ")}; ` +
      `peak ${await readPeakMib()} MiB`,
  );
}

async function run(runCase: FuzzCase): Promise<ReadonlyMap<string, number>> {
  const random = new RandomSource(seed);
  const counts = new Map<string, number>();
  for (let index = 0; index < cases; index += 1) {
    const result = await tell(runCase, random, index);
    counts.set(result, (counts.get(result) ?? 0) + 1);
  }
  return counts;
}

async function tell(runCase: FuzzCase, random: RandomSource, index: number): Promise<string> {
  try {
    return await runCase(random);
  } catch (error) {
    throw new Error(`case ${index} of seed ${seed}`, { cause: error });
  }
}

/** Of the process so far. */
async function readPeakMib(): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8");
  return Math.round(Number(/^VmHWM:\s+([0-9]+) kB$/m.exec(status)?.[1]) / 1024);
}
