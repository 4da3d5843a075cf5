/**
 * Drives the vsock device with hostile rings and messages: node scripts/fuzz-vsock-device.ts [--cases N] [--seed S]
 * One case in twenty is a message. The same seed gives the same cases; a failure is an exception.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";

import { loadAddon } from "../native/addon.ts";
import { runMessageCases } from "./vsock-fuzz/message-cases.ts";
import { RandomSource } from "./vsock-fuzz/random-source.ts";
import { runRingCases } from "./vsock-fuzz/ring-cases.ts";

const { values } = parseArgs({ options: { cases: { type: "string" }, seed: { type: "string" } } });
const cases = Number(values.cases ?? 1_000_000);
const seed = Number(values.seed ?? Date.now() % 0xff_ff_ff_ff);
const addon = loadAddon(join(import.meta.dirname, "..", "native", "build", "vsock.node"));
const random = new RandomSource(seed);
const messages = Math.ceil(cases / 20);

console.log(`${cases} cases of seed ${seed}`);
const start = performance.now();
const rings = await runRingCases(addon, random, cases - messages);
const sessions = await runMessageCases(addon, random, messages);
const seconds = ((performance.now() - start) / 1000).toFixed(1);
const { rss } = process.memoryUsage();
console.log(
  `${seconds} s; rings given up ${rings.faults}, connections ${rings.connections}, bytes ${rings.bytes}, ` +
    `front ends let go ${sessions}; resident ${Math.round(rss / 1024 ** 2)} MiB`,
);
