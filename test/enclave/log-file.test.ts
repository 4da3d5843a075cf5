import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

import { createLog } from "../../core/log.ts";
import { LOG_FILE_LIMITS, LogFile, type LogFileLimits } from "../../enclave/log-file.ts";
import type { LogEntry } from "../../wire/control.ts";
import { eventually } from "./eventually.ts";

class LogFolder implements AsyncDisposable {
  readonly path: string;
  readonly warnings: string[] = [];

  private constructor(path: string) {
    this.path = path;
  }

  static async open(): Promise<LogFolder> {
    return new LogFolder(await mkdtemp(join(tmpdir(), "logs-")));
  }

  file(limits: Partial<LogFileLimits> = {}): LogFile {
    const log = createLog({ write: (line) => this.warnings.push(line), now: () => 0 });
    return new LogFile({
      directory: this.path,
      service: "web",
      log,
      limits: { ...LOG_FILE_LIMITS, ...limits },
    });
  }

  read(name: string): Promise<string> {
    return readFile(join(this.path, name), "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true });
  }
}

function entry(line: string): LogEntry {
  return { seq: 1, time: 0, service: "web", stream: "stderr", line };
}

test("writes one line an entry, and goes on at the end of an older file", async () => {
  await using folder = await LogFolder.open();
  for (const line of ["one", "two"]) {
    await using file = folder.file();
    file.append(entry(line));
  }
  expect(await folder.read("web.log")).toBe(
    "1970-01-01T00:00:00.000Z stderr one\n1970-01-01T00:00:00.000Z stderr two\n",
  );
});

test("rotates by size and keeps so many files", async () => {
  await using folder = await LogFolder.open();
  await using file = folder.file({ fileBytes: 100, files: 3 });
  for (let index = 0; index < 20; index += 1) {
    const line = `line ${index} ${"x".repeat(80)}`;
    file.append(entry(line));
    await eventually(`${line} written`, async () =>
      (await folder.read("web.log").catch(() => "")).includes(line),
    );
  }
  expect((await readdir(folder.path)).sort()).toEqual(["web.log", "web.log.1", "web.log.2"]);
  expect(await folder.read("web.log.1")).toContain("line 18");
  expect((await stat(join(folder.path, "web.log.2"))).size).toBeLessThan(300);
});

test("leaves out and counts what comes faster than it can be written", async () => {
  await using folder = await LogFolder.open();
  await using file = folder.file({ queueBytes: 1000 });
  for (let index = 0; index < 1000; index += 1) file.append(entry("y".repeat(20)));
  await eventually("the count", async () =>
    /^\d+ lines left out$/m.test(await folder.read("web.log").catch(() => "")),
  );
  const text = await folder.read("web.log");
  const left = Number(/^(\d+) lines left out$/m.exec(text)?.[1]);
  expect(left + text.split("\n").filter((line) => line.endsWith("y")).length).toBe(1000);
});

test("gives up with one warning when the disk is full", async () => {
  await using folder = await LogFolder.open();
  await symlink("/dev/full", join(folder.path, "web.log"));
  await using file = folder.file();
  file.append(entry("lost"));
  await eventually("a warning", () => folder.warnings.length > 0);
  file.append(entry("lost too"));
  await file[Symbol.asyncDispose]();
  expect(folder.warnings).toHaveLength(1);
  expect(folder.warnings[0]).toContain("ENOSPC");
});

test("gives up with one warning when the file cannot be opened", async () => {
  await using folder = await LogFolder.open();
  await mkdir(join(folder.path, "web.log"));
  await using file = folder.file();
  file.append(entry("lost"));
  await eventually("a warning", () => folder.warnings.length > 0);
  expect(folder.warnings[0]).toContain("EISDIR");
});
