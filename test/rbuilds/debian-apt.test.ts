import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BASE_PACKAGES, resolvePackages } from "../../rbuilds/apt.ts";
import { fetchPackages } from "../../rbuilds/apt-fetch.ts";
import { type AptOptions, openPackageLists } from "../../rbuilds/apt-lists.ts";
import {
  ARCHITECTURE,
  localSource,
  makeDeb,
  sharedCache,
  writeAptSystem,
  writeRepository,
} from "../fixtures/rbuilds/debian-testbed.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "debian-apt-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("with the system's own sources", () => {
  const options: AptOptions = { architecture: ARCHITECTURE, cacheDir: sharedCache() };

  test("resolves redis-server with the base and what it depends on, sorted", async () => {
    const locked = await resolvePackages(["redis-server"], options);
    const names = locked.map((entry) => entry.name);
    expect(names).toEqual([...names].sort());
    expect(names).toEqual(
      expect.arrayContaining([...BASE_PACKAGES, "redis-server", "redis-tools", "adduser"]),
    );
    for (const entry of locked) expect(entry.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  test("needs no Perl for merged /usr", async () => {
    const names = (await resolvePackages(["redis-server"], options)).map((entry) => entry.name);
    expect(names).toContain("usr-is-merged");
    expect(names).not.toContain("perl");
  });

  test("names the nearest packages for one that does not exist", async () => {
    await expect(resolvePackages(["redis-sever"], options)).rejects.toMatchObject({
      code: "E_IMAGE_PACKAGE_UNKNOWN",
      message: expect.stringContaining("redis-server"),
      details: { package: "redis-sever" },
    });
  });

  test("gives apt's explanation for packages that exclude each other", async () => {
    await expect(resolvePackages(["systemd-sysv", "sysvinit-core"], options)).rejects.toMatchObject({
      code: "E_IMAGE_APT_RESOLVE",
      message: expect.stringMatching(/systemd-sysv : Conflicts: sysvinit-core/),
    });
  });
});

describe("names that never reach apt", () => {
  test.each([
    "Foo",
    "-o",
    "--allow-unauthenticated",
    "a b",
    "redis;id",
    "x",
    "",
    "../x",
    "nginx/sid",
    "nginx=1",
  ])("refuses %j", async (name) => {
    const system = { path: join(directory, "no-apt") };
    await expect(
      resolvePackages([name], { architecture: ARCHITECTURE, cacheDir: directory, system }),
    ).rejects.toMatchObject({ code: "E_IMAGE_PACKAGE_NAME" });
  });

  test("refuses a name with a minus at its end, which apt would take as a removal", async () => {
    const system = await localSystem(["alpha"]);
    await expect(resolve(["alpha-"], { system })).rejects.toMatchObject({ code: "E_IMAGE_PACKAGE_UNKNOWN" });
  });

  test("refuses a pattern, which apt would take as a regular expression", async () => {
    const system = await localSystem(["alpha"]);
    await expect(resolve(["al.ha"], { system })).rejects.toMatchObject({ code: "E_IMAGE_PACKAGE_UNKNOWN" });
  });
});

describe("with sources of its own", () => {
  test("says so where apt is missing", async () => {
    const system = { path: join(directory, "empty") };
    await expect(resolve(["alpha"], { system })).rejects.toMatchObject({ code: "E_IMAGE_APT_MISSING" });
  });

  test("says so where no source gives an index, and leaves no half-made lists", async () => {
    const system = await writeAptSystem(directory, [
      `deb [trusted=yes] file:${join(directory, "nowhere")} ./`,
    ]);
    await expect(resolve(["alpha"], { system })).rejects.toMatchObject({ code: "E_IMAGE_APT_UPDATE" });
    const [folder = ""] = await readdir(join(directory, "cache/apt"));
    expect(await readdir(join(directory, "cache/apt", folder))).toEqual([]);
  });

  test("does not mind a source that fails while another has the packages", async () => {
    const repository = join(directory, "repository");
    await writeRepository(repository, [await makeDeb(directory, { name: "alpha" })]);
    const dead = `deb [trusted=yes] http://127.0.0.1:1/debian ./`;
    const system = await writeAptSystem(directory, [dead, localSource(repository)]);
    expect((await resolve(["alpha"], { system })).map((entry) => entry.name)).toEqual(["alpha"]);
  });

  test("says what apt said where the lists lack the base packages", async () => {
    const system = await localSystem(["alpha"]);
    await expect(
      resolvePackages(["alpha"], { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), system }),
    ).rejects.toMatchObject({ code: "E_IMAGE_APT_UPDATE", message: expect.stringContaining("base-files") });
  });

  test("runs no hook of the system's configuration", async () => {
    const system = await localSystem(["alpha"]);
    await mkdir(join(directory, "etc/apt.conf.d"));
    const mark = join(directory, "hook-ran");
    const hooks = ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "DPkg::Post-Invoke"];
    const text = hooks.map((hook) => `${hook} { "touch ${mark}"; };\n`).join("");
    await writeFile(join(directory, "etc/apt.conf.d/99hooks"), text);
    await resolve(["alpha"], { system });
    expect(await readdir(directory)).not.toContain("hook-ran");
  });

  test("keeps the lists until they are too old", async () => {
    const system = await localSystem(["alpha"]);
    const base = { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), system };
    const first = await openPackageLists(base);
    expect((await openPackageLists(base)).updatedAt).toBe(first.updatedAt);
    expect((await openPackageLists({ ...base, listsMaxAgeMs: 0 })).updatedAt).toBeGreaterThan(
      first.updatedAt,
    );
  });

  test("reads the lists anew when the sources change", async () => {
    await resolve(["alpha"], { system: await localSystem(["alpha"]) });
    const system = await localSystem(["alpha", "beta"], "second");
    expect((await resolve(["beta"], { system })).map((entry) => entry.name)).toEqual(["beta"]);
  });

  test("lets many builds begin at once in one cache", async () => {
    const system = await localSystem(["alpha", "beta"]);
    const runs = Array.from({ length: 6 }, async () => {
      const locked = await resolve(["alpha", "beta"], { system, listsMaxAgeMs: 0 });
      return await fetchPackages(locked, {
        architecture: ARCHITECTURE,
        cacheDir: join(directory, "cache"),
        system,
      });
    });
    for (const paths of await Promise.all(runs)) expect([...paths.keys()]).toEqual(["alpha", "beta"]);
    const debs = await readdir(join(directory, "cache/debs"));
    expect(debs.filter((name) => !name.endsWith(".deb"))).toEqual([]);
  });

  test("ends with the caller's signal", async () => {
    const system = await localSystem(["alpha"]);
    const signal = AbortSignal.abort(new DOMException("stop", "AbortError"));
    await expect(resolve(["alpha"], { system, signal })).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("fetching a lock", () => {
  test("refuses other bytes under the version that the lock names", async () => {
    const system = await localSystem(["alpha"]);
    const locked = await resolve(["alpha"], { system });
    const forged = locked.map((entry) => ({ ...entry, sha256: "0".repeat(64) }));
    const options = { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), system };
    await expect(fetchPackages(forged, options)).rejects.toMatchObject({ code: "E_LOCK_MISMATCH" });
    expect(await readdir(join(directory, "cache/debs"))).toEqual([]);
  });

  test("names both versions where the mirror has moved on", async () => {
    const repository = join(directory, "repository");
    const system = await localSystem(["alpha"]);
    const locked = await resolve(["alpha"], { system });
    await rm(repository, { recursive: true });
    await writeRepository(repository, [await makeDeb(directory, { name: "alpha", version: "2:2.0~rc1" })]);
    const options = { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), system };
    await expect(fetchPackages(locked, options)).rejects.toMatchObject({
      code: "E_LOCK_UNAVAILABLE",
      details: { package: "alpha", locked: "1.0", available: "2:2.0~rc1" },
    });
  });

  test("says so where the mirror no longer has the package", async () => {
    const repository = join(directory, "repository");
    const system = await localSystem(["alpha"]);
    const locked = await resolve(["alpha"], { system });
    await rm(repository, { recursive: true });
    await writeRepository(repository, [await makeDeb(directory, { name: "beta" })]);
    const options = { architecture: ARCHITECTURE, cacheDir: join(directory, "cache"), system };
    await expect(fetchPackages(locked, options)).rejects.toMatchObject({
      code: "E_LOCK_UNAVAILABLE",
      details: { package: "alpha", available: null },
    });
  });

  test("needs neither lists nor mirror for what was fetched before", async () => {
    const system = await localSystem(["alpha"]);
    const locked = await resolve(["alpha"], { system });
    const cacheDir = join(directory, "cache");
    const paths = await fetchPackages(locked, { architecture: ARCHITECTURE, cacheDir, system });
    await rm(join(directory, "repository"), { recursive: true });
    await rm(join(cacheDir, "apt"), { recursive: true });
    expect(await fetchPackages(locked, { architecture: ARCHITECTURE, cacheDir, system })).toEqual(paths);
  });

  test("reports each package", async () => {
    const system = await localSystem(["alpha", "beta"]);
    const locked = await resolve(["alpha", "beta"], { system });
    const totals: number[] = [];
    const cacheDir = join(directory, "cache");
    await fetchPackages(locked, {
      architecture: ARCHITECTURE,
      cacheDir,
      system,
      onProgress: ({ stage, total }) => void (stage === "fetch" && totals.push(total)),
    });
    expect(new Set(totals)).toEqual(new Set([2]));
  });
});

async function localSystem(names: readonly string[], repositoryName = "repository") {
  const repository = join(directory, repositoryName);
  const debs = await Promise.all(names.map((name) => makeDeb(directory, { name })));
  await writeRepository(repository, debs);
  return await writeAptSystem(directory, [localSource(repository)]);
}

function resolve(names: readonly string[], options: Partial<AptOptions>) {
  const cacheDir = join(directory, "cache");
  return resolvePackages(names, { architecture: ARCHITECTURE, cacheDir, withBase: false, ...options });
}
