import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";

import { waitFor } from "../e2e/testbed.ts";
import { codeOf, run } from "./rootfs-testbed.ts";
import { describeBytes, openStoreBed, sha256, StoreBed } from "./store-bed.ts";

const WORKER = join(import.meta.dirname, "..", "fixtures", "rbuilds", "store-worker.ts");

function startWorker(bed: StoreBed, action: string, file: string, count = 1): ChildProcess {
  const words = [WORKER, bed.storeDirectory, action, file, String(count)];
  return spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "close");
}

/** The folder in which a half copy lies. */
async function waitForCopy(bed: StoreBed): Promise<string> {
  const directory = join(bed.storeDirectory, "tmp");
  return await waitFor("a half copy", async () => {
    const [name = ""] = await readdir(directory).catch(() => []);
    const info = await stat(join(directory, name, "image", "image.eif")).catch(() => undefined);
    return info !== undefined && info.size > 0 ? name : undefined;
  });
}

describe("several processes at once", () => {
  test("add, tag, list, remove and prune; nothing is lost, nothing is half", async () => {
    await using bed = await openStoreBed();
    const files = [randomBytes(200_000), randomBytes(300_000), randomBytes(200_000)];
    const paths = await Promise.all(files.map((bytes) => bed.file(bytes)));
    const workers = [...paths, ...paths].map((path) => startWorker(bed, "churn", path, 8));
    const outputs = await Promise.all(
      workers.map(async ({ stdout }) => (stdout === null ? "" : await text(stdout))),
    );
    // Only what another has removed or moved meanwhile may be missing.
    for (const output of outputs) expect(output).toMatch(/^done ?(E_STORE_NOT_FOUND)?\n$/);
    const { images, damaged } = await bed.store.list();
    expect(damaged).toEqual([]);
    const kept = images.filter(({ tags }) => tags.includes("kept:latest"));
    expect(kept).toHaveLength(1);
    expect(files.map(sha256)).toContain(kept[0]?.digest);
    await bed.store.collectGarbage();
    expect(await bed.wholeImages()).toEqual((await bed.store.list()).images.map(({ digest }) => digest));
    expect(await bed.temporaries()).toEqual([]);
  });

  test("one that is killed while it copies leaves no image, and the next writer removes its folder", async () => {
    await using bed = await openStoreBed();
    const bytes = randomBytes(3 * 1024 * 1024);
    const path = await bed.file(bytes);
    const child = startWorker(bed, "hang", path);
    const folder = await waitForCopy(bed);
    // While it lives nobody touches its folder.
    await bed.store.collectGarbage();
    expect(await bed.temporaries()).toEqual([folder]);
    await kill(child);
    expect(await bed.store.list()).toEqual({ images: [], damaged: [] });
    expect(await bed.temporaries()).toEqual([folder]);
    const other = await bed.add(["other"]);
    expect(await bed.temporaries()).toEqual([]);
    const again = await bed.store.add({ eifPath: path, info: describeBytes(bytes), tags: ["hung"] });
    expect((await bed.wholeImages()).sort()).toEqual([other.digest, again.digest].sort());
  });

  test("prune tells what a killed one left", async () => {
    await using bed = await openStoreBed();
    const child = startWorker(bed, "hang", await bed.file(randomBytes(3 * 1024 * 1024)));
    await waitForCopy(bed);
    await kill(child);
    const { abandoned, freedBytes } = await bed.store.collectGarbage();
    expect(abandoned.count).toBe(1);
    expect(freedBytes).toBeGreaterThanOrEqual(1024 * 1024);
  });

  test("killed at any moment, they leave a store that works", async () => {
    await using bed = await openStoreBed();
    const paths = await Promise.all(
      [randomBytes(150_000), randomBytes(90_000)].map((bytes) => bed.file(bytes)),
    );
    const before = await bed.add(["mine"]);
    for (let round = 0; round < 6; round += 1) {
      const workers = paths.map((path) => startWorker(bed, "churn", path, 1000));
      // Each round ends at another point of the work: after one more of a worker's folders was seen.
      const seen = new Set<string>();
      await waitFor("folders of workers", async () => {
        for (const name of await bed.temporaries()) seen.add(name);
        return workers.every(
          ({ pid }) => [...seen].filter((name) => name.startsWith(`${pid}-`)).length > round,
        )
          ? true
          : undefined;
      });
      await Promise.all(workers.map(kill));
      expect((await bed.store.list()).damaged).toEqual([]);
      await bed.wholeImages();
    }
    await bed.store.collectGarbage();
    expect(await bed.temporaries()).toEqual([]);
    expect((await bed.store.resolve("mine")).digest).toBe(before.digest);
  });
});

test.skipIf(process.getuid?.() !== 0)(
  "a full disk refuses an image, leaves what is there, and takes images again when there is room (needs root to mount one)",
  async () => {
    await using bed = await openStoreBed();
    const mounted = bed.path("full");
    await mkdir(mounted);
    await run("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", mounted]);
    try {
      const small = new StoreBed(mounted);
      const kept = await small.add(["kept"]);
      const large = randomBytes(4 * 1024 * 1024);
      const request = { eifPath: await bed.file(large), info: describeBytes(large), tags: ["large"] };
      expect(await codeOf(small.store.add(request))).toBe("E_DISK_FULL");
      expect(await small.temporaries()).toEqual([]);
      expect(await small.store.list()).toEqual({ images: [kept], damaged: [] });
      await run("mount", ["-o", "remount,size=30m", mounted]);
      expect((await small.store.add(request)).tags).toEqual(["large:latest"]);
    } finally {
      await run("umount", [mounted]);
    }
  },
);
