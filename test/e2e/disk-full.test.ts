import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

import { openTestbed, ROOT, runCommand } from "./testbed.ts";

const HELLO = join(ROOT, "examples", "hello", "enclave.yaml");

test.skipIf(process.getuid?.() !== 0)(
  "a full disk ends up with one coded refusal, and up works once there is room (needs root to mount one)",
  async () => {
    await using bed = await openTestbed();
    const directory = await mkdtemp(join(tmpdir(), "full-"));
    const cache = join(directory, "cache");
    await mkdir(cache);
    await runCommand(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", cache]);
    try {
      const up = await bed.run("--cache-dir", cache, "up", HELLO, "-d", "-p", "127.0.0.1:0:8080");
      expect(up.stderr).toContain("E_DISK_FULL");
      expect(up.status).toBe(8);
      expect(await bed.ps()).toEqual([]);
      const { stdout: halfMade } = await runCommand(["find", cache, "-name", "*.tmp"]);
      expect(halfMade).toBe("");
      await runCommand(["mount", "-o", "remount,size=1g", cache]);
      await bed.succeed("--cache-dir", cache, "up", HELLO, "-d", "-p", "127.0.0.1:0:8080");
      await bed.succeed("down", "hello");
    } finally {
      await runCommand(["umount", cache]);
      await rm(directory, { recursive: true });
    }
  },
);
