import { execFile, spawn } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { crc32 } from "node:zlib";

import type { PreparedFile } from "../rbuilds/prepared-file.ts";
import { print } from "./pipeline-process.ts";

const MIB = 1024 ** 2;
const PART_MIB = 2048;
const ROUNDS = 3;
const WRITER = fileURLToPath(new URL("eif-writer.ts", import.meta.url));

/**
 * An image of 4 GiB, written and measured from prepared files, beside two `openssl dgst -sha384` of the same files; and,
 * because an image also gets a SHA-256, beside those with a `-sha256` more.
 */
export async function measureEif(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "eif-"));
  try {
    const small = await prepare(join(directory, "small"), 8);
    const parts = [
      await prepare(join(directory, "part-0"), PART_MIB),
      await prepare(join(directory, "part-1"), PART_MIB),
    ];
    const files = parts.map(({ path }) => path);
    const rounds: Round[] = [];
    for (let round = 0; round < ROUNDS; round += 1)
      rounds.push(await measureRound(directory, { small, parts, files }));
    rounds.sort((a, b) => a.ratio - b.ratio);
    const median = rounds[Math.floor(ROUNDS / 2)];
    print(`eif: two openssl dgst -sha384 at once ${rate(median?.peerMs)} each`);
    print(`eif: written and measured ${rate(median?.ownMs)}, ratio ${median?.ratio.toFixed(2)} (limit 0.8)`);
    print(
      `eif: ratio to openssl with the SHA-256 too ${((median?.allMs ?? 0) / (median?.ownMs ?? 0)).toFixed(2)}`,
    );
    print(`eif: peak memory ${Math.max(...rounds.map(({ peakMib }) => peakMib)).toFixed(0)} MiB (limit 200)`);
  } finally {
    await rm(directory, { recursive: true });
  }
}

interface Input {
  readonly small: PreparedFile;
  readonly parts: readonly PreparedFile[];
  readonly files: readonly string[];
}

interface Round {
  readonly peerMs: number;
  /** With the SHA-256 too. */
  readonly allMs: number;
  readonly ownMs: number;
  readonly peakMib: number;
  /** Speed of ours by the peer's. */
  readonly ratio: number;
}

async function measureRound(directory: string, { small, parts, files }: Input): Promise<Round> {
  const start = performance.now();
  await Promise.all([digest("-sha384", files), digest("-sha384", files)]);
  const peerMs = performance.now() - start;
  await Promise.all([digest("-sha384", files), digest("-sha384", files), digest("-sha256", files)]);
  const allMs = performance.now() - start - peerMs;
  const output = join(directory, "image.eif");
  const words = [WRITER, JSON.stringify({ small, parts, output })];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  await rm(output);
  const [ownMs = 0, peakMib = 0] = stdout.split(" ").map(Number);
  print(
    `eif: peer ${peerMs.toFixed(0)} ms, ours ${ownMs.toFixed(0)} ms, ratio ${(peerMs / ownMs).toFixed(2)}`,
  );
  return { peerMs, allMs, ownMs, peakMib, ratio: peerMs / ownMs };
}

async function digest(algorithm: string, files: readonly string[]): Promise<void> {
  const child = spawn("openssl", ["dgst", algorithm, ...files], { stdio: ["ignore", "ignore", "inherit"] });
  const [status]: unknown[] = await once(child, "exit");
  if (status !== 0) throw new Error(`eif: openssl ended with ${String(status)}`);
}

function rate(elapsedMs = Number.NaN): string {
  return `${(((2 * PART_MIB) / elapsedMs) * 1000).toFixed(0)} MiB/s`;
}

async function prepare(path: string, sizeMib: number): Promise<PreparedFile> {
  await using file = await open(path, "w");
  const block = Buffer.alloc(MIB);
  let sum = 0;
  for (let index = 0; index < sizeMib; index += 1) {
    await file.write(randomFillSync(block));
    sum = crc32(block, sum);
  }
  return { path, sizeBytes: sizeMib * MIB, crc32: sum };
}
