import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, link, mkdir, readFile, symlink, utimes, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import {
  type ArchiveBed,
  describeTree,
  isRoot,
  openArchiveBed,
  packToBytes,
  unpackBytes,
} from "./archive-bed.ts";

const run = promisify(execFile);
const hasTar = existsSync("/usr/bin/tar");

/** Every kind of entry, names of every length, times before and after 1970. */
async function fillSource(bed: ArchiveBed): Promise<void> {
  await mkdir(bed.path("from/plain/read-only"), { recursive: true });
  const long = "n".repeat(255);
  await mkdir(bed.path("from", long, long), { recursive: true });
  for (const length of [1, 99, 100, 101, 155, 156, 255])
    await writeFile(bed.path("from/plain", "x".repeat(length)), `file of ${length}`);
  await writeFile(bed.path("from", long, long, "deep"), "deep");
  await writeFile(bed.path("from/plain/read-only/f"), Buffer.alloc(70_000, 1));
  await link(bed.path("from/plain/x"), bed.path("from/second"));
  await symlink("t".repeat(300), bed.path("from/long-link"));
  await symlink("plain/x", bed.path("from/short-link"));
  await writeFile(bed.path("from/old"), "");
  await chmod(bed.path("from/old"), 0o4755);
  await chmod(bed.path("from/plain/read-only"), 0o555);
  await setWholeTimes(bed.path("from"));
  await utimes(bed.path("from/old"), 0, "-86400");
}

/** Two of tar's formats have whole seconds only. */
async function setWholeTimes(path: string): Promise<void> {
  await run("find", [path, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"]);
}

describe.skipIf(!hasTar)("GNU tar as the oracle (where there is a tar)", () => {
  test.each(["pax", "gnu"])("its archives of --format=%s are read", async (format) => {
    await using bed = await openArchiveBed();
    await fillSource(bed);
    await run("tar", [
      `--format=${format}`,
      "--numeric-owner",
      "-C",
      bed.directory,
      "-cf",
      bed.path("t"),
      "from",
    ]);
    await unpackBytes(await readFile(bed.path("t")), bed.path("to"));
    expect(await describeTree(bed.path("to"))).toEqual(await describeTree(bed.path("from")));
  });

  test("its archives of --format=ustar are read", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("from/d", "e".repeat(90)), { recursive: true });
    await writeFile(bed.path("from/d", "e".repeat(90), "f".repeat(90)), "content");
    await symlink("x", bed.path("from/l"));
    await setWholeTimes(bed.path("from"));
    await run("tar", ["--format=ustar", "-C", bed.directory, "-cf", bed.path("t"), "from"]);
    await unpackBytes(await readFile(bed.path("t")), bed.path("to"));
    expect(await describeTree(bed.path("to"))).toEqual(await describeTree(bed.path("from")));
  });

  test("it reads ours, and sees what was packed", async () => {
    await using bed = await openArchiveBed();
    await fillSource(bed);
    await writeFile(bed.path("t"), await packToBytes(bed.path("from")));
    await mkdir(bed.path("to"));
    const owner = isRoot ? ["--same-owner"] : [];
    const { stderr } = await run("tar", ["-p", ...owner, "-C", bed.path("to"), "-xf", bed.path("t")]);
    expect(stderr.split("\n").filter((line) => line !== "" && !/implausibly old/.test(line))).toEqual([]);
    const [ours, theirs] = await Promise.all([
      describeTree(bed.path("from")),
      describeTree(bed.path("to/from")),
    ]);
    expect(theirs).toEqual(ours);
  });
});
