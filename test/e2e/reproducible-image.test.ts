import { chmod, chown, cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { listRamdisk } from "../independent-eif/ramdisk-lister.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import {
  type Built,
  DEFAULT_CACHE,
  faketimeLibrary,
  type ImageBed,
  type ImageRun,
  openImageBed,
  seedCache,
} from "./image-testbed.ts";
import { ROOT, runCommand } from "./testbed.ts";

const NOBODY = 65_534;
const IS_ROOT = process.getuid?.() === 0;
/** The first build of a machine compiles a kernel. */
const FIRST_BUILD_MS = 2_400_000;
const BUILD_MS = 240_000;

let bed: ImageBed;
let reference: Built;

beforeAll(async () => {
  bed = await openImageBed();
  const yaml = await bed.project("counter");
  reference = await bed.build(yaml, bed.path("reference.eif"));
}, FIRST_BUILD_MS);
afterAll(async () => await bed[Symbol.asyncDispose]());

describe("an image built again", () => {
  test("prints where it is, its digest and its measurements, and has its provenance beside it", async () => {
    expect(reference.eif).toBe(bed.path("reference.eif"));
    expect(Object.keys(reference.pcrs)).toEqual(["PCR0", "PCR1", "PCR2"]);
    const statement: unknown = JSON.parse(await readFile(reference.provenance ?? "", "utf8"));
    expect(statement).toMatchObject({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: "counter.eif", digest: { sha256: reference.sha256 } }],
      predicateType: "https://slsa.dev/provenance/v1",
    });
  });

  test("is read in the same way by a reader that knows nothing of ours", async () => {
    const image = await readIndependently(reference.eif);
    expect(image.pcrs).toEqual(reference.pcrs);
    expect(image.crcIsRight).toBe(true);
    expect(image.sections.map((section) => section.type)).toEqual([
      "kernel",
      "cmdline",
      "metadata",
      "ramdisk",
      "ramdisk",
    ]);
    expect(image.architecture).toBe("x86_64");
  });

  test(
    "is the same from another directory, with nothing cached but downloads and kernel",
    async () => {
      expect(await rebuild("elsewhere/with a longer name and ünïcode", {})).toBe(reference.sha256);
    },
    BUILD_MS,
  );

  test(
    "is the same under umask 077, where the checkout was made with it too",
    async () => {
      const prefix = ["sh", "-c", 'umask 077 && exec "$@"', "sh"];
      const yaml = await copyProject("masked");
      await chmod(bed.path("masked", "app"), 0o700);
      await chmod(bed.path("masked", "app", "server.js"), 0o600);
      const cacheDir = await freshCache("masked-cache");
      const built = await bed.build(yaml, bed.path("masked.eif"), { prefix, cacheDir });
      expect(built.sha256).toBe(reference.sha256);
    },
    BUILD_MS,
  );

  test(
    "is the same at another time, in another time zone and language",
    async () => {
      const environment = {
        TZ: "Pacific/Kiritimati",
        LANG: "tr_TR.UTF-8",
        LC_ALL: "tr_TR.UTF-8",
        SOURCE_DATE_EPOCH: "1234567890",
        LD_PRELOAD: await faketimeLibrary(),
        FAKETIME: "+1500d",
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
      };
      const clock = await runCommand([process.execPath, "-p", "new Date().getFullYear()"], environment);
      expect(Number(clock.stdout)).toBeGreaterThan(new Date().getFullYear() + 3);
      expect(await rebuild("later", { environment })).toBe(reference.sha256);
    },
    BUILD_MS,
  );

  test(
    "is the same where the machine's compiler, strip, cpio and tar are broken",
    async () => {
      const broken = bed.path("broken");
      await mkdir(broken);
      for (const name of ["cc", "gcc", "ld", "as", "strip", "cpio", "tar", "make", "xz", "gzip", "zstd"])
        await writeFile(join(broken, name), "#!/bin/sh\necho broken >&2\nexit 1\n", { mode: 0o755 });
      const environment = { PATH: `${broken}:${process.env["PATH"] ?? ""}` };
      expect(await rebuild("unequipped", { environment })).toBe(reference.sha256);
    },
    BUILD_MS,
  );

  test.skipIf(!IS_ROOT)(
    "is the same for an ordinary user with one uid (needs root to become one)",
    async () => {
      const home = bed.path("user");
      await mkdir(home);
      for (const part of ["bin", "dist", "native", "package.json"])
        await cp(join(ROOT, part), join(home, "install", part), { recursive: true });
      await cp(process.execPath, join(home, "node"));
      await seedCache(DEFAULT_CACHE, join(home, "cache"), NOBODY);
      await cp(bed.path("counter"), join(home, "project"), { recursive: true });
      await chown(home, NOBODY, NOBODY);
      const built = await bed.build(join(home, "project", "enclave.yaml"), join(home, "image.eif"), {
        prefix: ["setpriv", "--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups"],
        install: join(home, "install"),
        node: join(home, "node"),
        environment: { HOME: home, XDG_CACHE_HOME: "", XDG_STATE_HOME: "" },
        cacheDir: join(home, "cache"),
        stateDir: join(home, "state"),
      });
      expect(built.sha256).toBe(reference.sha256);
    },
    BUILD_MS,
  );
});

describe("the files of an image", () => {
  test("have the owners of the manifest, whoever built it", async () => {
    const image = await readIndependently(reference.eif);
    const [boot, application] = image.ramdisks;
    if (boot === undefined || application === undefined) throw new Error("two ramdisks were expected");
    const files = await listRamdisk(reference.eif, application.offset, application.sizeBytes);
    const owners = new Map(files.map(({ path, uid, gid }) => [path, `${uid}:${gid}`]));
    expect(owners.get("rootfs/app/server.js")).toBe("0:0");
    const redis = owners.get("rootfs/var/lib/redis");
    expect(redis).toMatch(/^[1-9]\d*:[1-9]\d*$/);
    expect(files.every(({ path }) => path === "rootfs" || path.startsWith("rootfs/"))).toBe(true);
    const names = (await listRamdisk(reference.eif, boot.offset, boot.sizeBytes)).map(({ path }) => path);
    expect(names).toEqual(["dev", "dev/console", "init"]);
  });

  test(
    "of another application leave PCR1 as it is",
    async () => {
      const built = await bed.build(await bed.project("hello"), bed.path("hello.eif"));
      expect(built.pcrs["PCR1"]).toBe(reference.pcrs["PCR1"]);
      expect(built.pcrs["PCR0"]).not.toBe(reference.pcrs["PCR0"]);
      expect(built.pcrs["PCR2"]).not.toBe(reference.pcrs["PCR2"]);
    },
    BUILD_MS,
  );
});

/** Builds the reference's project, with its lock, from a copy; @returns the digest */
async function rebuild(name: string, run: ImageRun): Promise<string> {
  const yaml = await copyProject(name);
  const cacheDir = await freshCache(`${name} cache`);
  return (await bed.build(yaml, bed.path(`${name}.eif`), { ...run, cacheDir })).sha256;
}

async function copyProject(name: string): Promise<string> {
  await cp(bed.path("counter"), bed.path(name), { recursive: true });
  return bed.path(name, "enclave.yaml");
}

async function freshCache(name: string): Promise<string> {
  await seedCache(DEFAULT_CACHE, bed.path(name));
  return bed.path(name);
}
