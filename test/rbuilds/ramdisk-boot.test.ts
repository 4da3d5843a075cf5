import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { StoredBlob } from "../../rbuilds/blob-store.ts";
import { prepareApplicationRamdisk } from "../../rbuilds/ramdisk/application-ramdisk.ts";
import { type BootRamdiskOptions, prepareBootRamdisk } from "../../rbuilds/ramdisk/boot-ramdisk.ts";
import { bytesOf, manifestOf, openRamdiskTestbed, type RamdiskTestbed, sha256 } from "./ramdisk-testbed.ts";
import { codeOf } from "./rootfs-testbed.ts";

let bed: RamdiskTestbed;
beforeAll(async () => {
  bed = await openRamdiskTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

const blob = async (text: string): Promise<StoredBlob> => await bed.bed.blobs.put(Buffer.from(text));

async function make(modules: BootRamdiskOptions["modules"], init = "init"): Promise<Buffer> {
  const options = { blobs: bed.bed.blobs, cacheDir: bed.path("cache"), modules, init: await blob(init) };
  return await bytesOf(await prepareBootRamdisk(options));
}

describe("the boot ramdisk", () => {
  test("has a console and init, and nothing else where no modules are needed", async () => {
    expect(await bed.read(await make([]))).toMatchObject([
      { path: "dev", type: "directory", mode: 0o755, uid: 0, gid: 0, inode: 1, nlink: 2 },
      {
        path: "dev/console",
        type: "character",
        mode: 0o600,
        rdevMajor: 5,
        rdevMinor: 1,
        uid: 0,
        gid: 0,
        inode: 2,
      },
      {
        path: "init",
        type: "file",
        mode: 0o755,
        sha256: sha256(Buffer.from("init")),
        uid: 0,
        gid: 0,
        inode: 3,
      },
    ]);
  });

  test("numbers modules in the order in which they are loaded", async () => {
    const modules = [
      { name: "virtio_mmio", blob: await blob("1") },
      { name: "nsm.ko", blob: await blob("2") },
      { name: "a-b", blob: await blob("1") },
    ];
    const entries = await bed.read(await make(modules));
    expect(entries.slice(3)).toMatchObject([
      { path: "modules", type: "directory", mode: 0o755 },
      { path: "modules/00-virtio_mmio.ko", mode: 0o644, sha256: sha256(Buffer.from("1")) },
      { path: "modules/01-nsm.ko", mode: 0o644, sha256: sha256(Buffer.from("2")) },
      { path: "modules/02-a-b.ko", mode: 0o644, sha256: sha256(Buffer.from("1")) },
    ]);
  });

  test("has other bytes for another init, another module or another order, and the same for the same", async () => {
    const [one, two] = [
      { name: "one", blob: await blob("1") },
      { name: "two", blob: await blob("2") },
    ];
    const made = [
      await make([one, two]),
      await make([two, one]),
      await make([one]),
      await make([one, two], "x"),
    ];
    expect(new Set(made.map(sha256)).size).toBe(4);
    expect(await make([one, two])).toEqual(made[0]);
  });

  test.each(["", "../evil", "a/b", "a b", "x".repeat(65), "a\n", "nsm.ko.xz"])(
    "refuses a module %j",
    async (name) => {
      expect(await codeOf(make([{ name, blob: await blob("1") }]))).toBe("E_RAMDISK_MODULE");
    },
  );

  test("refuses more modules than two digits number", async () => {
    const module = { name: "m", blob: await blob("1") };
    const entries = await bed.read(await make(Array.from({ length: 100 }, () => module)));
    expect(entries.at(-1)?.path).toBe("modules/99-m.ko");
    expect(await codeOf(make(Array.from({ length: 101 }, () => module)))).toBe("E_RAMDISK_MODULE");
  });

  test("cannot be changed by an application, whatever its names are", async () => {
    const manifest = manifestOf(
      await bed.file("/init", "evil"),
      await bed.file("/dev/console", "evil"),
      await bed.file("/rootfs/init", "evil"),
    );
    const options = { manifest, baseManifest: undefined, blobs: bed.bed.blobs, cacheDir: bed.path("cache") };
    const both = Buffer.concat([await make([]), await bytesOf(await prepareApplicationRamdisk(options))]);
    const entries = await bed.read(both);
    const names = entries.map(({ path }) => path);
    expect(new Set(names).size).toBe(names.length);
    expect(entries.filter(({ path }) => path === "init")).toMatchObject([
      { sha256: sha256(Buffer.from("init")) },
    ]);
    expect(entries.filter(({ archive }) => archive > 0).every(({ path }) => /^rootfs($|\/)/.test(path))).toBe(
      true,
    );
  });
});
