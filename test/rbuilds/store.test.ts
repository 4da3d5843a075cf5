import { randomBytes } from "node:crypto";
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";

import { run, codeOf } from "./rootfs-testbed.ts";
import { describeBytes, openStoreBed, sha256 } from "./store-bed.ts";

describe("adding", () => {
  test("an image is found by tag, by the default tag, by digest and by its first digits", async () => {
    await using bed = await openStoreBed();
    const bytes = randomBytes(3 * 1024 * 1024 + 7);
    const provenance = randomBytes(500);
    const before = Date.now();
    const added = await bed.add(["counter", "team/counter:1.2"], bytes, { provenance });
    const digest = sha256(bytes);
    for (const reference of [
      "counter",
      "counter:latest",
      "team/counter:1.2",
      `sha256:${digest}`,
      digest,
      digest.slice(0, 6),
      `sha256:${digest.slice(0, 9)}`,
    ])
      // prettier-ignore
      expect(await bed.store.resolve(reference), reference).toEqual(added);
    expect(added.tags).toEqual(["counter:latest", "team/counter:1.2"]);
    expect(await readFile(added.eifPath)).toEqual(bytes);
    expect(await readFile(added.provenancePath ?? "")).toEqual(provenance);
    expect(added.info).toEqual({
      ...describeBytes(bytes),
      hasProvenance: true,
      createdAt: added.info.createdAt,
    });
    expect(Date.parse(added.info.createdAt)).toBeGreaterThanOrEqual(before);
    expect(await bed.temporaries()).toEqual([]);
  });

  test("nobody else can look into the store, and an image in it cannot be written by accident", async () => {
    await using bed = await openStoreBed();
    const { eifPath } = await bed.add(["a"]);
    expect((await stat(bed.storeDirectory)).mode & 0o777).toBe(0o700);
    expect((await stat(eifPath)).mode & 0o777).toBe(0o400);
  });

  test("what is there already only gets the tags", async () => {
    await using bed = await openStoreBed();
    const bytes = randomBytes(100);
    const first = await bed.add(["a"], bytes, { provenance: randomBytes(10) });
    const second = await bed.add(["b"], bytes);
    expect(second).toEqual({ ...first, tags: ["a:latest", "b:latest"] });
    expect((await bed.store.list()).images).toEqual([second]);
  });

  test("a tag of another image moves, and the other image stays", async () => {
    await using bed = await openStoreBed();
    const first = await bed.add(["a"]);
    const second = await bed.add(["a"]);
    expect((await bed.store.resolve("a")).digest).toBe(second.digest);
    expect((await bed.store.resolve(first.digest)).tags).toEqual([]);
  });

  test("a copied file stays; a moved one is gone, and the store does not share it with anybody", async () => {
    await using bed = await openStoreBed();
    const bytes = randomBytes(100);
    const eifPath = await bed.file(bytes);
    await bed.store.add({ eifPath, info: describeBytes(bytes), tags: ["a"] });
    expect(await readFile(eifPath)).toEqual(bytes);
    await bed.store.remove("a");
    const moved = await bed.store.add({ eifPath, info: describeBytes(bytes), tags: ["a"], move: true });
    await expect(stat(eifPath)).rejects.toMatchObject({ code: "ENOENT" });
    expect((await stat(moved.eifPath)).nlink).toBe(1);
  });

  test("a file that is not what was announced is refused, and stays also where it was to be moved", async () => {
    await using bed = await openStoreBed();
    const bytes = randomBytes(100);
    const eifPath = await bed.file(bytes);
    const before = await stat(eifPath);
    for (const info of [describeBytes(randomBytes(100)), describeBytes(bytes, { sizeBytes: 99 })])
      for (const move of [true, false])
        expect(await codeOf(bed.store.add({ eifPath, info, tags: ["a"], move }))).toBe("E_STORE_DIGEST");
    const after = await stat(eifPath);
    expect([after.nlink, after.mode]).toEqual([before.nlink, before.mode]);
    expect((await bed.store.list()).images).toEqual([]);
    expect(await bed.temporaries()).toEqual([]);
  });

  test("what is no file is refused without waiting for it", async () => {
    await using bed = await openStoreBed();
    await run("mkfifo", [bed.path("pipe")]);
    for (const eifPath of [bed.path("pipe"), bed.directory, "/dev/zero", bed.path("absent")])
      expect(await codeOf(bed.store.add({ eifPath, info: describeBytes(randomBytes(1)), tags: [] }))).toBe("E_STORE_FILE"); // prettier-ignore
  });

  test("a link is copied, not taken", async () => {
    await using bed = await openStoreBed();
    const bytes = randomBytes(100);
    await symlink(await bed.file(bytes), bed.path("link"));
    const added = await bed.store.add({ eifPath: bed.path("link"), info: describeBytes(bytes), tags: ["a"] });
    expect(await readFile(added.eifPath)).toEqual(bytes);
  });

  test("a cancelled addition leaves nothing", async () => {
    await using bed = await openStoreBed();
    const abort = new AbortController();
    const adding = bed.add(["a"], randomBytes(5 * 1024 * 1024), {
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(adding).rejects.toMatchObject({ name: "AbortError" });
    expect((await bed.store.list()).images).toEqual([]);
    expect(await bed.temporaries()).toEqual([]);
  });

  test("an empty store that was never written to is empty, and is not made by looking", async () => {
    await using bed = await openStoreBed();
    expect(await bed.store.list()).toEqual({ images: [], damaged: [] });
    expect(await codeOf(bed.store.resolve("a"))).toBe("E_STORE_NOT_FOUND");
    expect(await readdir(bed.directory)).toEqual([]);
  });
});

describe("references", () => {
  test("a name that is not there is answered with the nearest, and with other tags of it", async () => {
    await using bed = await openStoreBed();
    await bed.add(["counter:1.0", "signer:1.0"]);
    await expect(bed.store.resolve("countr:1.0")).rejects.toMatchObject({
      code: "E_STORE_NOT_FOUND",
      hint: expect.stringContaining("Did you mean counter:1.0?"),
      details: { nearest: ["counter:1.0"] },
    });
    await expect(bed.store.resolve("signer:brand-new")).rejects.toMatchObject({
      details: { nearest: ["signer:1.0"] },
    });
  });

  test("digits with which several digests begin are refused, naming the digests", async () => {
    await using bed = await openStoreBed();
    const digests = ["abcdef0", "abcdef1"].map((start) => start.padEnd(64, "0"));
    for (const digest of digests)
      await mkdir(join(bed.storeDirectory, "sha256", digest), { recursive: true });
    await expect(bed.store.resolve("abcdef")).rejects.toMatchObject({
      code: "E_STORE_AMBIGUOUS",
      details: { digests: digests.map((digest) => `sha256:${digest}`) },
    });
    expect(await codeOf(bed.store.resolve("abcdef1"))).toBe("E_STORE_DAMAGED");
  });

  test("a tag goes before a digest that begins so", async () => {
    await using bed = await openStoreBed();
    const { digest } = await bed.add([]);
    const other = await bed.add([digest.slice(0, 8)]);
    expect((await bed.store.resolve(digest.slice(0, 8))).digest).toBe(other.digest);
    expect((await bed.store.resolve(`sha256:${digest.slice(0, 8)}`)).digest).toBe(digest);
  });

  test("one name may be a part of another", async () => {
    await using bed = await openStoreBed();
    const image = await bed.add(["a:b", "a/b:c", "a/b/c:b"]);
    expect(image.tags).toEqual(["a:b", "a/b:c", "a/b/c:b"]);
    for (const tag of image.tags) expect((await bed.store.resolve(tag)).digest).toBe(image.digest);
  });
});

describe("removing", () => {
  test("an image goes with its last tag, and its bytes with it", async () => {
    await using bed = await openStoreBed();
    const { digest } = await bed.add(["a", "b:1"]);
    expect(await bed.store.remove("b:1")).toEqual({ untagged: ["b:1"], deleted: [], freedBytes: 0 });
    const { deleted, freedBytes } = await bed.store.remove("a");
    expect(deleted).toEqual([digest]);
    expect(freedBytes).toBeGreaterThan(1000);
    expect(await readdir(join(bed.storeDirectory, "sha256"))).toEqual([]);
    expect(await readdir(join(bed.storeDirectory, "tags"))).toEqual([]);
  });

  test("by digest an image with several tags needs force, one with one does not", async () => {
    await using bed = await openStoreBed();
    const { digest } = await bed.add(["a", "b"]);
    await expect(bed.store.remove(digest)).rejects.toMatchObject({
      code: "E_STORE_SEVERAL_TAGS",
      details: { tags: ["a:latest", "b:latest"] },
    });
    expect(await bed.store.remove(digest, { force: true })).toMatchObject({
      untagged: ["a:latest", "b:latest"],
      deleted: [digest],
    });
    const other = await bed.add(["c"]);
    expect(await bed.store.remove(other.digest.slice(0, 12))).toMatchObject({
      untagged: ["c:latest"],
      deleted: [other.digest],
    });
  });

  test("of several references all are obeyed or none", async () => {
    await using bed = await openStoreBed();
    const one = await bed.add(["a", "b"]);
    const two = await bed.add(["c"]);
    expect(await codeOf(bed.store.remove(["a", "c", "absent"]))).toBe("E_STORE_NOT_FOUND");
    expect((await bed.store.list()).images.flatMap(({ tags }) => tags).sort()).toEqual([
      "a:latest",
      "b:latest",
      "c:latest",
    ]);
    const removal = await bed.store.remove(["a", one.digest, "c", "c:latest"]);
    expect(removal.untagged.toSorted()).toEqual(["a:latest", "b:latest", "c:latest"]);
    expect(removal.deleted.toSorted()).toEqual([one.digest, two.digest].sort());
  });

  test("garbage is images without tags and tags without images; all else stays", async () => {
    await using bed = await openStoreBed();
    const kept = await bed.add(["kept"]);
    const unnamed = await bed.add([]);
    const lost = await bed.add(["lost"]);
    await rm(dirname(lost.eifPath), { recursive: true });
    const { untagged, deleted, freedBytes, abandoned } = await bed.store.collectGarbage();
    expect({ untagged, deleted, abandoned: abandoned.count }).toEqual({
      untagged: ["lost:latest"],
      deleted: [unnamed.digest],
      abandoned: 0,
    });
    expect(freedBytes).toBeGreaterThan(1000);
    expect((await bed.store.list()).images).toEqual([kept]);
    expect((await bed.store.collectGarbage()).freedBytes).toBe(0);
  });
});

describe("damage", () => {
  test("is told with the file, does not hide other images, and is repaired by adding the image again", async () => {
    await using bed = await openStoreBed();
    const whole = await bed.add(["whole"]);
    const bytes = randomBytes(100);
    const damages = ["", "{}", "[]", "\xff", "[".repeat(100_000), JSON.stringify({ ...whole.info, more: 1 }), JSON.stringify(whole.info)]; // prettier-ignore
    for (const text of damages) {
      const { digest, eifPath } = await bed.add(["broken"], bytes);
      const infoPath = join(dirname(eifPath), "info.json");
      await writeFile(infoPath, text, "latin1");
      const { images, damaged } = await bed.store.list();
      expect(images).toEqual([whole]);
      expect(
        damaged.map(({ code }) => code),
        text.slice(0, 50),
      ).toEqual(["E_STORE_DAMAGED"]);
      expect(damaged[0]?.message).toContain(infoPath);
      expect(await codeOf(bed.store.resolve("broken"))).toBe("E_STORE_DAMAGED");
      expect((await bed.add(["broken"], bytes)).digest).toBe(digest);
      expect((await bed.store.list()).damaged).toEqual([]);
    }
  });

  test("an image that is cut off or missing is told, and can be removed", async () => {
    await using bed = await openStoreBed();
    const cut = await bed.add(["cut"]);
    await chmod(cut.eifPath, 0o600);
    await truncate(cut.eifPath, 10);
    await expect(bed.store.resolve("cut")).rejects.toMatchObject({
      code: "E_STORE_DAMAGED",
      message: expect.stringContaining(cut.eifPath),
    });
    expect((await bed.store.remove("cut")).deleted).toEqual([cut.digest]);
    const bare = await bed.add(["bare"], randomBytes(9), { provenance: randomBytes(9) });
    await rm(bare.provenancePath ?? "");
    expect(await codeOf(bed.store.resolve("bare"))).toBe("E_STORE_DAMAGED");
  });

  test("a tag that cannot be read is told; nothing is removed that may be its image, and it itself can be", async () => {
    await using bed = await openStoreBed();
    const image = await bed.add(["good", "bad"]);
    const path = join(bed.storeDirectory, "tags", "bad", "latest");
    for (const text of ["", "sha256:", "x".repeat(1000), `sha256:${"A".repeat(64)}`]) {
      await writeFile(path, text);
      const { images, damaged } = await bed.store.list();
      expect(images.map(({ tags }) => tags)).toEqual([["good:latest"]]);
      expect(damaged.map(({ message }) => message)).toEqual([expect.stringContaining(path)]);
    }
    expect(await codeOf(bed.store.collectGarbage())).toBe("E_STORE_DAMAGED");
    expect(await codeOf(bed.store.remove("good"))).toBe("E_STORE_DAMAGED");
    expect((await bed.store.resolve("good")).digest).toBe(image.digest);
    expect(await bed.store.remove("bad")).toEqual({ untagged: ["bad:latest"], deleted: [], freedBytes: 0 });
    expect((await bed.store.remove("good")).deleted).toEqual([image.digest]);
  });

  test("files that are not the store's are passed over", async () => {
    await using bed = await openStoreBed();
    const image = await bed.add(["a"]);
    for (const path of ["sha256/readme", "tags/UPPER/x", "tags/a/.hidden", "tags/file", "tmp/other"]) {
      await mkdir(dirname(join(bed.storeDirectory, path)), { recursive: true });
      await writeFile(join(bed.storeDirectory, path), "x");
    }
    expect(await bed.store.list()).toEqual({ images: [image], damaged: [] });
    await bed.store.collectGarbage();
    expect(await readdir(join(bed.storeDirectory, "tmp"))).toEqual(["other"]);
  });

  test("a store in a place that is no directory is refused with its path", async () => {
    await using bed = await openStoreBed();
    await writeFile(bed.storeDirectory, "");
    const adding = bed.add(["a"]);
    await expect(adding).rejects.toMatchObject({
      code: "E_STORE_ACCESS",
      message: expect.stringContaining(bed.storeDirectory),
    });
  });
});
