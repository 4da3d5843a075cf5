import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { KitError } from "../../core/errors.ts";
import { decodeLock, encodeLock, type EnclaveLock, lockDigest } from "../../rbuilds/lock/enclave-lock.ts";
import { compareLocks, renderChange } from "../../rbuilds/lock/lock-difference.ts";
import { lockPath, readLockFile, requireCurrent, writeLockFile } from "../../rbuilds/lock/lock-file.ts";

const hex = (character: string): string => character.repeat(64);

const REDIS = {
  name: "redis-server",
  version: "5:7.0.15-1",
  architecture: "amd64",
  sha256: hex("a"),
  sizeBytes: 1000,
  filename: "redis-server_5%3a7.0.15-1_amd64.deb",
} as const;
const LOCK: EnclaveLock = {
  architecture: "amd64",
  toolkit: { supervisor: hex("1"), node: hex("2") },
  base: { kind: "debian", names: ["redis-server"] },
  packages: [REDIS],
  toolchain: [{ ...REDIS, name: "gcc", filename: "gcc_1_amd64.deb" }],
  kernel: { kind: "default", source: { ...REDIS, name: "linux-source-6.12", architecture: "all" } },
};

describe("a lock", () => {
  test("is read as it was written, and its bytes do not depend on the order of what the toolkit names", () => {
    const text = encodeLock(LOCK);
    expect(decodeLock(text, "enclave.lock")).toEqual(LOCK);
    const turned = { ...LOCK, toolkit: { node: hex("2"), supervisor: hex("1") } };
    expect(encodeLock(turned)).toBe(text);
    expect(lockDigest(turned)).toBe(lockDigest(LOCK));
  });

  test("has one package a line, so that a change of it can be read", () => {
    const lines = encodeLock(LOCK).split("\n");
    expect(lines.filter((line) => line.includes('"redis-server"') && line.includes(hex("a")))).toHaveLength(
      1,
    );
  });

  test.each([
    ["text that is not JSON", "{"],
    ["another version", encodeLock(LOCK).replace('"version": 1', '"version": 2')],
    ["a key that nobody knows", encodeLock(LOCK).replace('"architecture"', '"color": 1,\n  "architecture"')],
    ["a digest of another form", encodeLock(LOCK).replace(hex("1"), "1".repeat(63))],
    ["a package twice", encodeLock({ ...LOCK, packages: [REDIS, REDIS] })],
    ["a kernel of no kind", encodeLock(LOCK).replace('"kind":"default"', '"kind":"vmlinux"')],
    ["no packages", encodeLock(LOCK).replace('"packages"', '"parcels"')],
  ])("is refused with %s", (_what, text) => {
    expect(() => decodeLock(text, "enclave.lock")).toThrow(
      expect.objectContaining({ code: "E_LOCK_INVALID" }),
    );
  });

  test("of any text is read or refused with one code", () => {
    const texts = fc.oneof(
      fc.string(),
      fc.json(),
      fc.nat(encodeLock(LOCK).length).map((end) => encodeLock(LOCK).slice(0, end)),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          decodeLock(text, "enclave.lock");
        } catch (error) {
          if (!(error instanceof KitError) || error.code !== "E_LOCK_INVALID") throw error;
        }
      }),
    );
  });
});

describe("the difference of two locks", () => {
  test("names packages that came, went and changed", () => {
    const after: EnclaveLock = {
      ...LOCK,
      packages: [{ ...REDIS, version: "5:7.0.16-1", sha256: hex("b") }],
      toolchain: [],
      base: { kind: "debian", names: ["nginx", "redis-server"] },
    };
    expect(compareLocks(LOCK, after).map(renderChange)).toEqual([
      "base: debian redis-server -> nginx, redis-server",
      "packages: redis-server 5:7.0.15-1 (aaaaaaaaaaaa) -> 5:7.0.16-1 (bbbbbbbbbbbb)",
      "toolchain: - gcc 5:7.0.15-1 (aaaaaaaaaaaa)",
    ]);
  });

  test("is empty for a lock and itself", () => {
    expect(compareLocks(LOCK, structuredClone(LOCK))).toEqual([]);
  });

  test("shows another archive of the same version", () => {
    const after = { ...LOCK, packages: [{ ...REDIS, sha256: hex("c") }] };
    expect(compareLocks(LOCK, after).map(renderChange)).toEqual([
      "packages: redis-server 5:7.0.15-1 (aaaaaaaaaaaa) -> 5:7.0.15-1 (cccccccccccc)",
    ]);
  });
});

describe("the file of a lock", () => {
  test("lies beside the YAML, can be absent, and is refused if it is for other inputs", async () => {
    const directory = await mkdtemp(join(tmpdir(), "lock-"));
    try {
      const path = lockPath(join(directory, "enclave.yaml"));
      expect(path).toBe(join(directory, "enclave.lock"));
      expect(await readLockFile(path)).toBeUndefined();
      await writeLockFile(path, LOCK);
      expect(await readFile(path, "utf8")).toBe(encodeLock(LOCK));
      expect(await readLockFile(path)).toEqual(LOCK);
      expect(() => requireCurrent(path, LOCK, LOCK)).not.toThrow();
      const now = { ...LOCK, toolkit: { ...LOCK.toolkit, supervisor: hex("9") } };
      expect(() => requireCurrent(path, LOCK, now)).toThrow(
        expect.objectContaining({
          code: "E_LOCK_STALE",
          message: expect.stringContaining("toolkit: supervisor"),
        }),
      );
      await writeFile(path, "{}");
      await expect(readLockFile(path)).rejects.toMatchObject({ code: "E_LOCK_INVALID" });
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
