import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  lchown,
  mkdir,
  readdir,
  readFile,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { decodeArchiveReport, MAX_ARCHIVE_REPORT_BYTES } from "../../wire/archive-report.ts";
import { rawTar } from "../rbuilds/rootfs-testbed.ts";
import {
  type ArchiveBed,
  describeTree,
  isRoot,
  openArchiveBed,
  packToBytes,
  refusalOf,
} from "./archive-bed.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const PROGRAM = join(ROOT, "archive", "archive-main.ts");
const MIB = 1024 ** 2;

interface Ended {
  readonly status: number | null;
  readonly report: string;
}

interface StartedProgram {
  readonly process: ReturnType<typeof spawn>;
  readonly ended: Promise<Ended>;
}

/** @param streams descriptors 0 and 1; "pipe" is a Unix stream socket to this process. */
function start(
  words: readonly string[],
  streams: readonly ["pipe" | Socket | "ignore", "pipe" | Socket | "ignore"],
): StartedProgram {
  const process_ = spawn(process.execPath, [PROGRAM, ...words], { stdio: [...streams, "pipe"] });
  const ended = async (): Promise<Ended> => {
    const exit = once(process_, "exit");
    const report = process_.stderr === null ? "" : await text(process_.stderr);
    const [status] = (await exit) as [number | null];
    return { status, report };
  };
  return { process: process_, ended: ended() };
}

async function unpack(archive: Uint8Array, words: readonly string[]): Promise<Ended> {
  const program = start(["unpack", ...words], ["pipe", "ignore"]);
  program.process.stdin?.on("error", () => undefined);
  program.process.stdin?.end(archive);
  return await program.ended;
}

/** Both ends of a connection, of which this process has read nothing. */
async function openConnection(bed: ArchiveBed): Promise<[Socket, Socket]> {
  const server = createServer({ pauseOnConnect: true }).listen(bed.path("socket"));
  await once(server, "listening");
  const near = connect(bed.path("socket"));
  const [far] = (await once(server, "connection")) as [Socket];
  server.close();
  return [near, far];
}

describe("the program that copies inside an enclave", () => {
  test("packs into one socket and unpacks from another, and says what it copied", async () => {
    await using bed = await openArchiveBed();
    await mkdir(bed.path("from/d"), { recursive: true });
    await writeFile(bed.path("from/d/f"), Buffer.alloc(3 * MIB, 7));
    await symlink("d/f", bed.path("from/l"));
    const [near, far] = await openConnection(bed);
    const packing = start(["pack", bed.path("from")], ["ignore", near]);
    const unpacking = start(["unpack", bed.path("to")], [far, "ignore"]);
    near.destroy();
    far.destroy();
    const summary = { entries: 4, bytes: 3 * MIB };
    for (const { status, report } of await Promise.all([packing.ended, unpacking.ended])) {
      expect(status).toBe(0);
      expect(decodeArchiveReport(report)).toEqual(summary);
    }
    expect(await describeTree(bed.path("to"))).toEqual(await describeTree(bed.path("from")));
  });

  test.skipIf(!isRoot)("keeps owners and special modes unless told not to (needs root)", async () => {
    await using bed = await openArchiveBed();
    await writeFile(bed.path("f"), "");
    await lchown(bed.path("f"), 1234, 2345);
    await chmod(bed.path("f"), 0o4755);
    const archive = await packToBytes(bed.path("f"));
    await unpack(archive, [bed.path("kept")]);
    const kept = await stat(bed.path("kept"));
    expect([kept.uid, kept.gid, kept.mode & 0o7777]).toEqual([1234, 2345, 0o4755]);
    await unpack(archive, ["--owners", "caller", bed.path("own")]);
    expect((await stat(bed.path("own"))).uid).toBe(process.getuid?.());
  });

  test("reads from and writes to files as well", async () => {
    await using bed = await openArchiveBed();
    await writeFile(bed.path("f"), "content");
    const command = `"$1" "$2" pack "$3/f" > "$3/t" && "$1" "$2" unpack "$3/g" < "$3/t"`;
    await promisify(execFile)("sh", ["-c", command, "sh", process.execPath, PROGRAM, bed.directory]);
    expect(await readFile(bed.path("g"), "utf8")).toBe("content");
  });

  test("refuses with one line and status 1", async () => {
    await using bed = await openArchiveBed();
    const archive = rawTar([{ name: `../${"\u0001".repeat(90)}`, content: "x" }]);
    const { status, report } = await unpack(archive, [bed.directory]);
    expect(status).toBe(1);
    expect(report.endsWith("}\n")).toBe(true);
    expect(Buffer.byteLength(report)).toBeLessThanOrEqual(MAX_ARCHIVE_REPORT_BYTES);
    expect(() => decodeArchiveReport(report)).toThrow("it leads upwards");
  });

  test.each([
    [[]],
    [["pack"]],
    [["unpack", "a", "b"]],
    [["move", "a"]],
    [["unpack", "--owners", "me", "a"]],
    [["--x"]],
  ])("does not understand the words %j", async (words) => {
    const { status, report } = await start(words, ["ignore", "ignore"]).ended;
    expect(status).toBe(1);
    const refused = await refusalOf(Promise.try(() => decodeArchiveReport(report)));
    expect(refused.code).toBe("E_USAGE");
  });

  test("says so when the reading side goes away", async () => {
    await using bed = await openArchiveBed();
    await writeFile(bed.path("f"), "");
    await truncate(bed.path("f"), 64 * MIB);
    const program = start(["pack", bed.path("f")], ["ignore", "pipe"]);
    program.process.stdout?.once("data", () => program.process.stdout?.destroy());
    const { status, report } = await program.ended;
    expect(status).toBe(1);
    const refused = await refusalOf(Promise.try(() => decodeArchiveReport(report)));
    expect(refused.code).toBe("E_ARCHIVE_STREAM");
  });

  test("refuses an archive whose sender stopped in the middle, and leaves nothing", async () => {
    await using bed = await openArchiveBed();
    const { status, report } = await unpack(
      rawTar([{ name: "f", content: "x".repeat(5000) }]).subarray(0, 3000),
      [bed.path("g")],
    );
    expect(status).toBe(1);
    expect(() => decodeArchiveReport(report)).toThrow("too early");
    expect(await readdir(bed.directory)).toEqual([]);
  });

  test("ends on SIGTERM in the middle of a file, and leaves nothing", async () => {
    await using bed = await openArchiveBed();
    const program = start(["unpack", bed.path("g")], ["pipe", "ignore"]);
    program.process.stdin?.on("error", () => undefined);
    program.process.stdin?.write(rawTar([{ name: "f", content: "x".repeat(5000) }]).subarray(0, 3000));
    await expect.poll(() => readdir(bed.directory), { timeout: 20_000 }).toHaveLength(1);
    program.process.kill("SIGTERM");
    const { status, report } = await program.ended;
    expect(status).toBe(1);
    expect(report).toContain('"E_CANCELLED"');
    expect(await readdir(bed.directory)).toEqual([]);
  });
});

test("a file of 1 GiB goes through a Unix socket without the process growing with it", async () => {
  await using bed = await openArchiveBed();
  // Large enough for what the garbage collector leaves lying about to have reached its usual height.
  await writeFile(bed.path("small"), "");
  await truncate(bed.path("small"), 256 * MIB);
  await writeFile(bed.path("large"), "");
  await truncate(bed.path("large"), 1024 * MIB);
  const script = join(ROOT, "test", "fixtures", "archive", "copy-through-socket.ts");
  const words = [script, bed.path("large"), bed.path("copy"), bed.path("small")];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  const { growth } = JSON.parse(stdout) as { growth: number };
  expect((await stat(bed.path("copy"))).size).toBe(1024 * MIB);
  expect(growth).toBeLessThan(96 * MIB);
});
