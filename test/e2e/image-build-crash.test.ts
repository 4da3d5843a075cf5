import { spawn } from "node:child_process";
import { once } from "node:events";
import { watch } from "node:fs";
import {
  appendFile,
  lutimes,
  mkdir,
  readdir,
  readFile,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import {
  type Built,
  BuiltJson,
  DEFAULT_CACHE,
  type ImageBed,
  type ImageRun,
  openImageBed,
} from "./image-testbed.ts";
import { ROOT, runCommand } from "./testbed.ts";

const FIRST_BUILD_MS = 2_400_000;
const TEST_MS = 240_000;
const KILL_DEADLINE_MS = 120_000;
const IS_ROOT = process.getuid?.() === 0;
/** What is slow to make and only ever added to. */
const SHARED_FOLDERS = ["apt", "blobs", "compiled", "debs", "toolchains", "unpacked-1"];

let bed: ImageBed;
let hello = "";
let reference: Built;

beforeAll(async () => {
  bed = await openImageBed();
  hello = await bed.project("hello");
  reference = await bed.build(hello, bed.path("reference.eif"));
}, FIRST_BUILD_MS);
afterAll(async () => await bed[Symbol.asyncDispose]());

describe("a build that is killed", () => {
  test.for([
    { place: "its ramdisks", folder: "ramdisks", form: /\.cpio\.zst\..*\.tmp$/, count: 2 },
    { place: "its largest ramdisk", folder: "ramdisks", form: /\.cpio\.zst\..*\.tmp$/, count: 3 },
    { place: "the image", folder: "out", form: /^\.[0-9a-f]{16}\.eif\.tmp$/, count: 1 },
  ] as const)(
    "while it writes $place leaves nothing under the name, and the next gives the same bytes and removes what is old",
    { timeout: TEST_MS },
    async (moment) => {
      const { cacheDir, out, watched, left } = await killInside(moment);
      expect(await readdir(out)).toEqual(watched === out ? [left] : []);
      const build = async () => await bed.build(hello, join(out, "a.eif"), { cacheDir });
      expect(await build()).toMatchObject({ sha256: reference.sha256, pcrs: reference.pcrs });
      // What is a day old is nobody's any more; until then it may be another build's.
      expect(await readdir(watched)).toContain(left);
      await lutimes(join(watched, left), 1, 1);
      expect((await build()).sha256).toBe(reference.sha256);
      expect((await readdir(out)).sort()).toEqual(["a.eif", "a.eif.provenance.json"]);
      expect((await readdir(join(cacheDir, "ramdisks"))).filter(isTemporary)).toEqual([]);
    },
  );
});

describe("builds at once", () => {
  test("of one project and of two, in one cache, give the right bytes", { timeout: TEST_MS }, async () => {
    const { cacheDir, out } = await emptyCache("at-once");
    const other = await bed.project("hello", "other");
    await appendFile(bed.path("other", "app", "server.js"), "\n");
    const [one, same, another] = await Promise.all([
      bed.build(hello, join(out, "a.eif"), { cacheDir }),
      bed.build(hello, join(out, "a.eif"), { cacheDir }),
      bed.build(other, join(out, "c.eif"), { cacheDir }),
    ]);
    expect([one.sha256, same.sha256]).toEqual([reference.sha256, reference.sha256]);
    expect(another.sha256).toBe((await bed.build(other, bed.path("c.eif"))).sha256);
    expect(another.sha256).not.toBe(reference.sha256);
    expect((await readFile(one.eif)).equals(await readFile(reference.eif))).toBe(true);
    const files = ["a.eif", "a.eif.provenance.json", "c.eif", "c.eif.provenance.json"];
    expect((await readdir(out)).sort()).toEqual(files);
  });

  test("into one store give one image with every tag", { timeout: TEST_MS }, async () => {
    const stateDir = bed.path("store-state");
    const words = ["build", hello, "--json", "--tag"];
    const results = await Promise.all(
      ["hello:1", "hello:2"].map(async (tag) => await bed.pipeline([...words, tag], { stateDir })),
    );
    for (const { status, stdout, stderr } of results) {
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(BuiltJson.parse(JSON.parse(stdout)).sha256).toBe(reference.sha256);
    }
    const images = await bed.pipeline(["images", "--json"], { stateDir });
    expect(JSON.parse(images.stdout)).toMatchObject([
      { digest: `sha256:${reference.sha256}`, tags: ["hello:1", "hello:2"] },
    ]);
  });
});

describe.skipIf(!IS_ROOT)("a disk that is full (needs root to mount one)", () => {
  test.for(["the output", "the cache"] as const)(
    "for %s ends up with one coded refusal, and nothing half-written",
    { timeout: TEST_MS },
    async (which) => {
      const { cacheDir, out } = await emptyCache(`full-${which.replace(" ", "-")}`);
      const place = which === "the output" ? out : join(cacheDir, "ramdisks");
      await runCommand(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place]);
      try {
        const words = ["build", hello, "-o", join(out, "a.eif")];
        const { status, stderr } = await bed.pipeline(words, { cacheDir });
        expect(stderr).toContain("E_DISK_FULL");
        expect(status).toBe(8);
        expect(await readdir(out)).toEqual([]);
        expect((await readdir(place)).filter(isTemporary)).toEqual([]);
        await runCommand(["mount", "-o", "remount,size=200m", place]);
        expect((await bed.build(hello, join(out, "a.eif"), { cacheDir })).sha256).toBe(reference.sha256);
      } finally {
        await runCommand(["umount", place]);
      }
    },
  );
});

describe("files that are copied into an image", () => {
  test(
    "are refused by name where one has 6 GiB, before anything is copied",
    { timeout: TEST_MS },
    async () => {
      const { yaml, folder } = await projectWithFolder("huge");
      await writeFile(join(folder, "huge.bin"), "");
      await truncate(join(folder, "huge.bin"), 6 * 1024 ** 3);
      const { status, stderr } = await bed.pipeline(["build", yaml, "-o", bed.path("huge.eif")]);
      expect(stderr).toContain(`E_RAMDISK_FILE_TOO_LARGE]: ${join(folder, "huge.bin")} has 6442450944 bytes`);
      expect(status).toBe(2);
    },
  );

  test("are refused where a name is not UTF-8", { timeout: TEST_MS }, async () => {
    const { yaml, folder } = await projectWithFolder("latin");
    await writeFile(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9])]), "");
    const { status, stderr } = await bed.pipeline(["build", yaml, "-o", bed.path("latin.eif")]);
    expect(stderr).toContain(`E_IMAGE_SOURCE]: ${folder}: "café" is not UTF-8`);
    expect(status).toBe(2);
  });

  test(
    "may have line breaks in their names, and inspect tells them apart",
    { timeout: TEST_MS },
    async () => {
      const { yaml, folder } = await projectWithFolder("breaks");
      for (const name of ["a\nb", "a\\x0ab"]) await writeFile(join(folder, name), name);
      const { eif } = await bed.build(yaml, bed.path("breaks.eif"));
      const { stdout } = await bed.pipeline(["inspect", eif, "--tree", "--json"]);
      const names = listTree(stdout).filter(({ path }) => path.startsWith("rootfs/data/"));
      const bytes = names.map(({ path, pathHex }) =>
        pathHex === undefined ? path : Buffer.from(pathHex, "hex").toString(),
      );
      expect(bytes).toEqual(["rootfs/data/a\nb", "rootfs/data/a\\x0ab"]);
      expect(new Set(names.map(({ path }) => path)).size).toBe(2);
    },
  );

  test("may be 300,000, in memory that does not grow with them much", { timeout: TEST_MS }, async () => {
    const { yaml, folder } = await projectWithFolder("many");
    const script = `cd "$1" && for d in $(seq 300); do mkdir $d; (cd $d; echo $d > 0; seq 999 | xargs touch); done`;
    await runCommand(["sh", "-c", script, "sh", folder]);
    const peak = bed.path("peak");
    const { cacheDir } = await emptyCache("many-files");
    const environment = await tellingPeak(peak);
    const { eif } = await bed.build(yaml, bed.path("many.eif"), { cacheDir, environment });
    expect(Number(await readFile(peak, "utf8"))).toBeLessThan(MAX_PEAK_KIB);
    const { stdout } = await bed.pipeline(["inspect", eif, "--json"]);
    const [, application] = SummaryJson.parse(JSON.parse(stdout)).ramdisks;
    expect(application?.files).toBeGreaterThan(300_300);
    await runCommand(["rm", "-r", folder]);
  });
});

/** Measured 590 MiB; an image of hello takes 200 MiB. */
const MAX_PEAK_KIB = 1024 * 1024;
const SummaryJson = z.object({ ramdisks: z.array(z.object({ files: z.number() })) });

/**
 * Environment in which a Node leaves its peak memory, in KiB, in that file. Not by maxRSS: that of a process begins
 * with what its parent had when it forked, and the parent here is the process of all tests.
 */
async function tellingPeak(path: string): Promise<Record<string, string>> {
  const script = bed.path("tell-peak.mjs");
  const lines = [
    `import { readFileSync, writeFileSync } from "node:fs";`,
    `const peak = () => /^VmHWM:\\s+(\\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))[1];`,
    `process.on("exit", () => writeFileSync(${JSON.stringify(path)}, peak()));`,
  ];
  await writeFile(script, lines.join("\n"));
  return { NODE_OPTIONS: `--import=${script}` };
}

const TreeJson = z.object({
  ramdisks: z.array(
    z.object({ entries: z.array(z.object({ path: z.string(), pathHex: z.string().optional() })) }),
  ),
});

function listTree(stdout: string) {
  return TreeJson.parse(JSON.parse(stdout)).ramdisks.flatMap(({ entries }) => entries);
}

/** hello with a folder of its own that goes to /data. */
async function projectWithFolder(name: string): Promise<{ readonly yaml: string; readonly folder: string }> {
  const yaml = await bed.project("hello", name);
  const text = await readFile(yaml, "utf8");
  await writeFile(yaml, text.replace("to: /app }]", "to: /app }, { from: ./data, to: /data }]"));
  const folder = bed.path(name, "data");
  await mkdir(folder);
  return { yaml, folder };
}

/** A cache without images and ramdisks, and a folder for what is built. */
async function emptyCache(
  name: string,
): Promise<Required<Pick<ImageRun, "cacheDir">> & { readonly out: string }> {
  const cacheDir = bed.path(name, "cache");
  const out = bed.path(name, "out");
  await mkdir(join(cacheDir, "ramdisks"), { recursive: true });
  await mkdir(out);
  for (const folder of SHARED_FOLDERS) await symlink(join(DEFAULT_CACHE, folder), join(cacheDir, folder));
  return { cacheDir, out };
}

function isTemporary(name: string): boolean {
  return name.endsWith(".tmp");
}

interface Moment {
  readonly folder: "ramdisks" | "out";
  /** Of names in the folder. */
  readonly form: RegExp;
  /** So many of them were seen. */
  readonly count: number;
}

const MAX_TRIES = 8;

/** Kills builds until one is hit in the middle: a file may be finished before the signal arrives. */
async function killInside(moment: Moment) {
  const { folder, form, count } = moment;
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    const { cacheDir, out } = await emptyCache(`killed-${folder}-${count}-${attempt}`);
    const watched = folder === "out" ? out : join(cacheDir, "ramdisks");
    const words = ["--cache-dir", cacheDir, "build", hello, "-o", join(out, "a.eif")];
    await killWhen(watched, moment, words);
    const [left] = (await readdir(watched)).filter((name) => form.test(name));
    if (left !== undefined) return { cacheDir, out, watched, left };
  }
  throw new Error(`no build of ${MAX_TRIES} was hit`);
}

/** Runs the command line and kills it when the moment has come. */
async function killWhen(folder: string, { form, count }: Moment, words: readonly string[]): Promise<void> {
  const seen = new Set<string>();
  const program = join(ROOT, "bin", "pipeline.js");
  const watcher = watch(folder, (_event, name) => {
    if (name !== null && form.test(name)) seen.add(name);
    if (seen.size >= count) child.kill("SIGKILL");
  });
  const child = spawn(process.execPath, [program, "--state-dir", bed.path("state"), ...words], {
    stdio: "ignore",
    timeout: KILL_DEADLINE_MS,
  });
  try {
    await once(child, "close");
  } finally {
    watcher.close();
  }
}
