import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { resolvePackages } from "../../rbuilds/apt.ts";
import { fetchPackages } from "../../rbuilds/apt-fetch.ts";
import type { AptOptions } from "../../rbuilds/apt-lists.ts";
import type { PackageSource } from "../../wire/image-spec.ts";
import {
  ARCHITECTURE,
  localSource,
  makeDeb,
  writeAptSystem,
  writeRepository,
} from "../fixtures/rbuilds/debian-testbed.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sources-"));
});
afterEach(async () => await rm(directory, { recursive: true }));

describe("a folder of packages", () => {
  test("serves a locked version that the mirrors no longer have, under any file name", async () => {
    const { locked, options, old } = await supersede();
    await expect(fetchPackages(locked, options)).rejects.toMatchObject({
      code: "E_LOCK_UNAVAILABLE",
      message: expect.stringContaining("alpha 1.0"),
      details: { package: "alpha", locked: "1.0", available: "2:2.0~rc1" },
    });
    await rename(old, join(directory, "keep.deb"));
    const sources: PackageSource[] = [{ kind: "directory", path: directory }];
    const paths = await fetchPackages(locked, { ...options, sources });
    expect(await readFile(paths.get("alpha") ?? "")).toEqual(await readFile(join(directory, "keep.deb")));
  });

  test("with a file of the same size and other bytes serves nothing", async () => {
    const { locked, options, old } = await supersede();
    const bytes = await readFile(old);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    await rm(old);
    await writeFile(join(directory, "forged.deb"), bytes);
    const sources: PackageSource[] = [{ kind: "directory", path: directory }];
    await expect(fetchPackages(locked, { ...options, sources })).rejects.toMatchObject({
      code: "E_LOCK_UNAVAILABLE",
    });
    expect((await readdir(join(options.cacheDir, "debs"))).filter((name) => name.includes("tmp"))).toEqual(
      [],
    );
  });

  test("that is not there is told by its name", async () => {
    const { locked, options } = await supersede();
    const sources: PackageSource[] = [{ kind: "directory", path: join(directory, "nowhere") }];
    await expect(fetchPackages(locked, { ...options, sources })).rejects.toMatchObject({
      code: "E_CONFIG_FILE_MISSING",
    });
  });
});

describe("a snapshot", () => {
  test("takes the place of the system's sources, for locking and for fetching", async () => {
    const { options } = await supersede();
    const snapshot = join(directory, "snapshot");
    await writeRepository(snapshot, [await makeDeb(directory, { name: "alpha", version: "0.9" })]);
    const sources: PackageSource[] = [
      { kind: "snapshot", url: `file:${snapshot}`, suites: ["./"], components: ["main"] },
    ];
    const locked = await resolvePackages(["alpha"], {
      ...options,
      system: { etcDirectory: join(directory, "trusting") },
      sources,
      withBase: false,
    }).catch((error: unknown) => error);
    // Nobody signed it, and a snapshot gets no more trust than any other source.
    expect(locked).toMatchObject({ code: "E_IMAGE_APT_UPDATE" });
  });
});

test("a snapshot that the distribution signed serves packages, with no source of the system's", async () => {
  const codename =
    /^VERSION_CODENAME=(\w+)$/m.exec(await readFile("/etc/os-release", "utf8"))?.[1] ?? "stable";
  const url = await mirrorUrl(codename);
  const sources: PackageSource[] = [{ kind: "snapshot", url, suites: [codename], components: ["main"] }];
  const options = { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), sources };
  const locked = await resolvePackages(["dash"], { ...options, withBase: false });
  const dash = locked.filter(({ name }) => name === "dash");
  const paths = await fetchPackages(dash, options);
  expect((await readFile(paths.get("dash") ?? "")).length).toBe(dash[0]?.sizeBytes);
}, 180_000);

/** The archive from which this machine has its distribution. */
async function mirrorUrl(codename: string): Promise<string> {
  const { stdout } = await promisify(execFile)("apt-get", [
    "indextargets",
    "--format",
    "$(SITE) $(RELEASE) $(COMPONENT)",
  ]);
  const line = stdout.split("\n").find((each) => each.endsWith(` ${codename} main`));
  const [url] = line?.split(" ") ?? [];
  if (url === undefined) throw new Error(`apt has no source of ${codename}`);
  return url.replace(/\/$/, "");
}

/** A lock of alpha 1.0, and a mirror that has 2.0 alone. */
async function supersede(): Promise<{
  readonly locked: Awaited<ReturnType<typeof resolvePackages>>;
  readonly options: AptOptions;
  readonly old: string;
}> {
  const repository = join(directory, "repository");
  const old = await makeDeb(directory, { name: "alpha", version: "1.0" });
  await writeRepository(repository, [old]);
  const system = await writeAptSystem(directory, [localSource(repository)]);
  const options = { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), system };
  const locked = await resolvePackages(["alpha"], { ...options, withBase: false });
  await rm(repository, { recursive: true });
  const next = join(directory, "next");
  await writeRepository(repository, [
    await makeDeb(await mkdtemp(next), { name: "alpha", version: "2:2.0~rc1" }),
  ]);
  return { locked, options, old };
}
