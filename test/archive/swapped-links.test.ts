import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { rawTar } from "../rbuilds/rootfs-testbed.ts";
import { type ArchiveBed, openArchiveBed, packToBytes, unpackBytes } from "./archive-bed.ts";

const SWAPPER = join(import.meta.dirname, "..", "fixtures", "archive", "link-swapper.ts");
const ROUNDS = 150;
/** On a machine that has no time for the attacker, until it was met. */
const MAX_ROUNDS = 10_000;

/** Starts the process that swaps `in/top/d` for a link to `outside` and back; its end is awaited on disposal. */
async function startSwapper(bed: ArchiveBed): Promise<AsyncDisposable> {
  const words = [SWAPPER, bed.path("in/top"), "d", bed.path("outside")];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

async function fillAttacked(bed: ArchiveBed): Promise<void> {
  await mkdir(bed.path("in/top/d"), { recursive: true });
  await mkdir(bed.path("outside"));
  await writeFile(bed.path("outside/secret"), "secret");
}

/** How often `work` succeeded, and what it was refused with. */
async function repeat(work: () => Promise<unknown>): Promise<Map<string, number>> {
  const outcomes = new Map<string, number>();
  for (let round = 0; round < ROUNDS || (outcomes.size < 2 && round < MAX_ROUNDS); round += 1) {
    const outcome = await work().then(
      () => "done",
      (error: unknown) => {
        if (error instanceof KitError) return error.code;
        throw error;
      },
    );
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}

test("nothing is written outside while another process swaps a directory for a link", async () => {
  await using bed = await openArchiveBed();
  await fillAttacked(bed);
  const archive = rawTar([
    { name: "top/", type: "5" },
    { name: "top/d/", type: "5" },
    { name: "top/d/evil", content: "evil" },
    { name: "top/d/link", type: "1", link: "top/d/evil" },
    { name: "top/d/e/", type: "5" },
    { name: "top/d/e/evil", type: "2", link: "x" },
  ]);
  let outcomes: Map<string, number>;
  {
    await using _ = await startSwapper(bed);
    outcomes = await repeat(() => unpackBytes(archive, bed.path("in")));
  }
  expect(await readdir(bed.path("outside"))).toEqual(["secret"]);
  expect(await readFile(bed.path("outside/secret"), "utf8")).toBe("secret");
  // Both must have been met, or the attack was none.
  expect(outcomes.size).toBeGreaterThan(1);
});

test("nothing outside is packed while another process swaps a directory for a link", async () => {
  await using bed = await openArchiveBed();
  await fillAttacked(bed);
  await writeFile(bed.path("in/top/d/own"), "own");
  const archives: Buffer[] = [];
  {
    await using _ = await startSwapper(bed);
    await repeat(async () => archives.push(await packToBytes(bed.path("in/top"))));
  }
  expect(archives.length).toBeGreaterThan(0);
  expect(archives.some((archive) => archive.includes("secret"))).toBe(false);
});
