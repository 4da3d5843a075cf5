import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { readUserFile, writeUserFile } from "../../rbuilds/store/user-files.ts";
import { chunksOf, codeOf, rawTar, run } from "./rootfs-testbed.ts";
import { blobMember, descriptor, type HandmadeArchive, type HandmadeImage, type Json, makeArchive, makeMembers } from "./saved-images.ts"; // prettier-ignore
import { describeBytes, openStoreBed, sha256, type StoreBed } from "./store-bed.ts";

async function save(bed: StoreBed, ...references: string[]): Promise<Buffer> {
  const plan = await bed.store.save(references);
  const parts: Uint8Array[] = [];
  for await (const part of plan.stream()) parts.push(part);
  const bytes = Buffer.concat(parts);
  expect(bytes).toHaveLength(plan.totalBytes);
  return bytes;
}

describe("saving and loading", () => {
  test("brings images, provenance and the tags that were named into another store", async () => {
    await using from = await openStoreBed();
    await using to = await openStoreBed();
    const one = await from.add(["one:1", "one:2", "other"], randomBytes(3_000_001), {
      provenance: randomBytes(5000),
    });
    const two = await from.add(["two"]);
    const bytes = await save(from, "one:1", "one:2", two.digest);
    const loaded = await to.store.load(chunksOf(bytes));
    expect(
      loaded.map(({ digest, tags }) => ({ digest, tags })).toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
    ).toEqual(
      [
        { digest: one.digest, tags: ["one:1", "one:2"] },
        { digest: two.digest, tags: [] },
      ].sort((a, b) => (a.digest < b.digest ? -1 : 1)),
    );
    const there = await to.store.resolve("one:1");
    expect(await readFile(there.eifPath)).toEqual(await readFile(one.eifPath));
    expect(await readFile(there.provenancePath ?? "")).toEqual(await readFile(one.provenancePath ?? ""));
    expect(there.info).toEqual({ ...one.info, createdAt: there.info.createdAt });
    expect(await to.temporaries()).toEqual([]);
    await to.wholeImages();
  });

  test("writes the same bytes for the same images, whenever they were stored and in whatever order they are named", async () => {
    await using first = await openStoreBed();
    await using second = await openStoreBed();
    const images = [randomBytes(700), randomBytes(1024)];
    const provenance = randomBytes(100);
    for (const bed of [first, second])
      for (const [index, bytes] of (bed === first ? images : images.toReversed()).entries())
        await bed.add([`tag:${images.indexOf(bytes)}`, `more:${index}`], bytes, { provenance });
    const bytes = await save(first, "tag:0", "tag:1");
    expect(await save(second, "tag:1", "tag:0", "tag:1")).toEqual(bytes);
    expect(bytes.includes("createdAt")).toBe(false);
  });

  test("is an OCI layout that tar unpacks and packs again as it likes", async () => {
    await using bed = await openStoreBed();
    const image = await bed.add(["a:1"], randomBytes(1000), { provenance: randomBytes(10) });
    await writeFile(bed.path("a.tar"), await save(bed, "a:1"));
    await mkdir(bed.path("layout"));
    await run("tar", ["-C", bed.path("layout"), "-xf", bed.path("a.tar")]);
    expect(await readdir(bed.path("layout"))).toEqual(["blobs", "index.json", "oci-layout"]);
    for (const digest of await readdir(bed.path("layout", "blobs", "sha256")))
      expect(sha256(await readFile(bed.path("layout", "blobs", "sha256", digest)))).toBe(digest);
    const index: unknown = JSON.parse(await readFile(bed.path("layout", "index.json"), "utf8"));
    const manifest = {
      artifactType: "application/vnd.aws.nitro-enclave.eif.v1",
      annotations: { "org.opencontainers.image.ref.name": "a:1" },
    };
    expect(index).toMatchObject({ schemaVersion: 2, manifests: [manifest] });
    for (const format of ["gnu", "posix", "ustar"]) {
      await bed.store.remove("a:1");
      await run("tar", ["-C", bed.path("layout"), `--format=${format}`, "-cf", bed.path("b.tar"), "."]);
      expect((await bed.store.load(readUserFile(bed.path("b.tar")))).map(({ digest }) => digest)).toEqual([
        image.digest,
      ]);
    }
  });

  test("an archive made by hand is taken, in any order of its members", async () => {
    await using bed = await openStoreBed();
    const eif = randomBytes(5000);
    const images = [{ eif, tags: ["a", "b:1"], provenance: Buffer.from("p") }, { tags: [] }];
    const archive = makeArchive(images, { members: (members) => members.toReversed() });
    const loaded = await bed.store.load(chunksOf(archive));
    expect(loaded[0]).toMatchObject({
      digest: sha256(eif),
      tags: ["a:latest", "b:1"],
      info: describeBytes(eif),
    });
    expect(loaded[1]?.tags).toEqual([]);
    expect(await readFile(loaded[0]?.eifPath ?? "")).toEqual(eif);
  });

  test("a provenance may be any bytes, also those of another image or of a part of the archive", async () => {
    await using from = await openStoreBed();
    await using to = await openStoreBed();
    const eif = Buffer.from("an image");
    const provenances = [eif, Buffer.from("{}"), Buffer.alloc(0), eif];
    for (const [index, provenance] of provenances.entries())
      await from.add([`a:${index}`], index === 0 ? eif : randomBytes(10), { provenance });
    const loaded = await to.store.load(chunksOf(await save(from, "a:0", "a:1", "a:2", "a:3")));
    expect(loaded).toHaveLength(4);
    for (const [index, provenance] of provenances.entries()) {
      const { provenancePath = "" } = await to.store.resolve(`a:${index}`);
      expect(await readFile(provenancePath)).toEqual(provenance);
    }
  });

  test("two loads of the same at once both end well", async () => {
    await using bed = await openStoreBed();
    const archive = makeArchive([{ eif: randomBytes(300_000) }, { tags: ["second"] }]);
    const loads = await Promise.all([1, 2, 3].map(async () => await bed.store.load(chunksOf(archive))));
    for (const images of loads) expect(images).toEqual(loads[0]);
    expect((await bed.store.list()).images).toHaveLength(2);
    expect(await bed.temporaries()).toEqual([]);
  });

  test("an image that is damaged in the store is found out while it is saved, and no file is left", async () => {
    await using bed = await openStoreBed();
    const { eifPath } = await bed.add(["a"], randomBytes(1000));
    await run("sh", [
      "-c",
      `chmod u+w ${eifPath} && printf x | dd of=${eifPath} bs=1 seek=500 conv=notrunc status=none`,
    ]);
    const plan = await bed.store.save(["a"]);
    expect(await codeOf(writeUserFile(bed.path("out.tar"), plan.stream()))).toBe("E_STORE_DAMAGED");
    expect((await readdir(bed.directory)).filter((name) => name.includes("out"))).toEqual([]);
  });

  test("a caller may look into each image before it is stored", async () => {
    await using bed = await openStoreBed();
    const seen: string[] = [];
    const verify = async (path: string, { digest }: { digest: string }): Promise<void> => {
      expect(sha256(await readFile(path))).toBe(digest);
      seen.push(digest);
      if (seen.length === 2) throw new Error("its PCRs are others");
    };
    const archive = makeArchive([{}, { tags: ["b"] }]);
    await expect(bed.store.load(chunksOf(archive), { verify })).rejects.toThrow("its PCRs are others");
    expect(await bed.store.list()).toEqual({ images: [], damaged: [] });
  });
});

const EMPTY_TAR = Buffer.alloc(1024);
const withLayers = (change: (layers: Json[]) => Json[]): HandmadeImage => ({
  manifest: (manifest) => ({ ...manifest, layers: change(manifest["layers"] as Json[]) }),
});
const withMembers = (members: HandmadeArchive["members"]): Buffer =>
  makeArchive([{}], { members: members ?? ((all) => all) });
const withFirst = (change: Json): Buffer =>
  makeArchive([{}], {
    index: ({ manifests: [first], ...index }) => ({ ...index, manifests: [{ ...first, ...change }] }),
  });
const stray = randomBytes(20);
const shared = randomBytes(100);

const HOSTILE: readonly (readonly [string, Buffer, string])[] = [
  ["nothing", Buffer.alloc(0), "E_STORE_ARCHIVE"],
  ["an empty tar", EMPTY_TAR, "E_STORE_ARCHIVE"],
  ["no tar", randomBytes(5000), "E_STORE_ARCHIVE"],
  ["a compressed tar", Buffer.from("1f8b08000000000000ff", "hex"), "E_STORE_ARCHIVE"],
  ["no oci-layout", withMembers((all) => all.filter(({ name }) => name !== "oci-layout")), "E_STORE_ARCHIVE"],
  ["no index.json", withMembers((all) => all.filter(({ name }) => name !== "index.json")), "E_STORE_ARCHIVE"],
  ["another layout version", makeArchive([{}], { layout: { imageLayoutVersion: "2.0.0" } }), "E_STORE_ARCHIVE"],
  ["no images", makeArchive([]), "E_STORE_ARCHIVE"],
  ["an index that is no object", makeArchive([{}], { index: () => [] }), "E_STORE_ARCHIVE"],
  ["an index with an unknown key", makeArchive([{}], { index: (index) => ({ ...index, more: 1 }) }), "E_STORE_ARCHIVE"],
  ["too many images in the index", makeArchive([{}], { index: ({ manifests: [first] }) => ({ schemaVersion: 2, manifests: Array.from({ length: 5000 }, () => first) }) }), "E_STORE_ARCHIVE"],
  ["a tag twice", makeArchive([{ tags: ["a"] }, { tags: ["a:latest"] }]), "E_STORE_ARCHIVE"],
  ["a tag that is none", makeArchive([{ tags: ["../../etc/passwd"] }]), "E_STORE_ARCHIVE"],
  ["a tag that is a digest", makeArchive([{ tags: [`sha256:${"0".repeat(64)}`] }]), "E_STORE_ARCHIVE"],
  ["a descriptor with a path for a digest", withFirst({ digest: "sha256:../../index.json" }), "E_STORE_ARCHIVE"],
  ["a descriptor with another digest", withFirst({ digest: `sha512:${"0".repeat(64)}` }), "E_STORE_ARCHIVE"],
  ["a descriptor of a missing manifest", withFirst({ digest: `sha256:${"0".repeat(64)}` }), "E_STORE_ARCHIVE"],
  ["a descriptor of another kind", withFirst({ mediaType: "application/vnd.oci.image.index.v1+json" }), "E_STORE_ARCHIVE"],
  ["a descriptor with another artifact", withFirst({ artifactType: "text/plain" }), "E_STORE_ARCHIVE"],
  ["a descriptor with a wrong size", withFirst({ size: 7 }), "E_STORE_DIGEST"],
  ["a descriptor with a size that is none", withFirst({ size: "7" }), "E_STORE_ARCHIVE"],
  ["annotations that are none", withFirst({ annotations: { a: 1 } }), "E_STORE_ARCHIVE"],
  ["a manifest that is an ordinary image's", makeArchive([{ manifest: (manifest) => ({ ...manifest, artifactType: undefined }) }]), "E_STORE_ARCHIVE"],
  ["a manifest with a subject", makeArchive([{ manifest: (manifest) => ({ ...manifest, subject: {} }) }]), "E_STORE_ARCHIVE"],
  ["a configuration that is not empty", makeArchive([{ manifest: (manifest) => ({ ...manifest, config: descriptor(shared, "application/vnd.oci.empty.v1+json") }) }], { members: (all) => [...all, blobMember(shared)] }), "E_STORE_ARCHIVE"],
  ["no EIF", makeArchive([withLayers(() => [])]), "E_STORE_ARCHIVE"],
  ["no info.json", makeArchive([withLayers((layers) => layers.slice(0, 1))]), "E_STORE_ARCHIVE"],
  ["layers in another order", makeArchive([withLayers((layers) => layers.toReversed())]), "E_STORE_ARCHIVE"],
  ["too many layers", makeArchive([withLayers((layers) => [...layers, ...layers])]), "E_STORE_ARCHIVE"],
  ["a layer with a wrong size", makeArchive([withLayers(([eif, info]) => [{ ...eif, size: 3 }, info ?? {}])]), "E_STORE_DIGEST"],
  ["a description of another image", makeArchive([{ info: { digest: "0".repeat(64) } }]), "E_STORE_DIGEST"],
  ["a description with another size", makeArchive([{ info: { sizeBytes: 1 } }]), "E_STORE_DIGEST"],
  ["a description with an unknown key", makeArchive([{ info: { createdAt: "2026-01-02T03:04:05.678Z" } }]), "E_STORE_ARCHIVE"],
  ["a description that would change the terminal", makeArchive([{ info: { signedBy: "\u001b[2J" } }]), "E_STORE_ARCHIVE"],
  ["one EIF as two images", makeArchive([{ eif: shared }, { eif: shared, tags: ["b"], info: { name: "other" } }]), "E_STORE_ARCHIVE"],
  ["a blob that no image needs", withMembers((all) => [...all, blobMember(stray)]), "E_STORE_ARCHIVE"],
  ["a file that does not belong there", withMembers((all) => [...all, { name: "readme", content: "x" }]), "E_STORE_ARCHIVE"],
  ["a blob with another name", withMembers((all) => [...all, { ...blobMember(stray), name: `blobs/sha256/${"0".repeat(64)}` }]), "E_STORE_DIGEST"],
  ["a blob twice", withMembers((all) => [...all, ...all.slice(-1)]), "E_STORE_ARCHIVE"],
  ["an index twice", withMembers((all) => [...all, ...all.slice(1, 2)]), "E_STORE_ARCHIVE"],
  ["an index twice, with ./", withMembers((all) => [...all, ...all.slice(1, 2).map((member) => ({ ...member, name: "./index.json" }))]), "E_STORE_ARCHIVE"],
  ["names that lead upwards", withMembers((all) => all.map((member) => ({ ...member, name: `../${member.name}` }))), "E_STORE_ARCHIVE"],
  ["absolute names", withMembers((all) => all.map((member) => ({ ...member, name: `/${member.name}` }))), "E_STORE_ARCHIVE"],
  ["a detour in a name", withMembers((all) => [...all, { name: "blobs/../x", content: "" }]), "E_STORE_ARCHIVE"],
  ["a symbolic link for the index", withMembers((all) => all.map((member) => (member.name === "index.json" ? { name: "index.json", type: "2", link: "/etc/passwd" } : member))), "E_STORE_ARCHIVE"],
  ["a hard link", withMembers((all) => [...all, { name: `blobs/sha256/${"0".repeat(64)}`, type: "1", link: "index.json" }]), "E_STORE_ARCHIVE"],
  ["a device", withMembers((all) => [...all, { name: "blobs/null", type: "3" }]), "E_STORE_ARCHIVE"],
  ["a strange directory", withMembers((all) => [...all, { name: "blobs/sha512/", type: "5" }]), "E_STORE_ARCHIVE"],
  ["a member with a size far beyond its bytes", withMembers((all) => [...all.slice(0, -1), { ...blobMember(stray), size: 2 ** 32 }]), "E_STORE_ARCHIVE"],
  ["a member that is too short", withMembers((all) => all.map((member) => (member.name === "index.json" ? { ...member, size: 5 } : member))), "E_STORE_ARCHIVE"],
  ["an index that is too large", withMembers((all) => all.map((member) => (member.name === "index.json" ? { ...member, content: Buffer.alloc(5 * 1024 * 1024, " ") } : member))), "E_STORE_ARCHIVE"],
  ["a wrong checksum", withMembers((all) => all.map((member) => ({ ...member, badChecksum: true }))), "E_STORE_ARCHIVE"],
  ["far too many members", withMembers((all) => [...all, ...Array.from({ length: 3000 }, () => ({ name: "blobs/", type: "5" }))]), "E_STORE_ARCHIVE"],
  ["no end", rawTar(makeMembers([{}]), false), "E_STORE_ARCHIVE"],
  ["half an end", Buffer.concat([rawTar(makeMembers([{}]), false), Buffer.alloc(512)]), "E_STORE_ARCHIVE"],
  ["bytes after the end", Buffer.concat([makeArchive([{}]), Buffer.from("x")]), "E_STORE_ARCHIVE"],
  ["zeros without end after the end", Buffer.concat([makeArchive([{}]), Buffer.alloc(2 * 1024 * 1024)]), "E_STORE_ARCHIVE"],
]; // prettier-ignore

describe("an archive that is not as it should be", () => {
  test.each(HOSTILE)("%s is refused and leaves nothing", async (_, bytes, code) => {
    await using bed = await openStoreBed();
    expect(await codeOf(bed.store.load(chunksOf(bytes)))).toBe(code);
    expect(await bed.store.list()).toEqual({ images: [], damaged: [] });
    expect(await bed.temporaries()).toEqual([]);
  });

  test("cut off anywhere is refused", async () => {
    await using bed = await openStoreBed();
    const archive = makeArchive([{ eif: randomBytes(1500) }]);
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: archive.length - 1 }), async (length) => {
        const code = await codeOf(bed.store.load(chunksOf(archive.subarray(0, length))));
        expect(code, `${length} of ${archive.length}`).toBe("E_STORE_ARCHIVE");
      }),
      { numRuns: 100 },
    );
    expect((await bed.store.list()).images).toEqual([]);
  });

  test("with any byte changed is refused, or means the same", async () => {
    await using bed = await openStoreBed();
    const eif = randomBytes(1500);
    const archive = makeArchive([{ eif, provenance: Buffer.from("p") }]);
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: archive.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (place, change) => {
          const bytes = Buffer.from(archive);
          bytes[place] = (bytes[place] ?? 0) ^ change;
          const code = await codeOf(bed.store.load(chunksOf(bytes)));
          expect(["accepted", "E_STORE_ARCHIVE", "E_STORE_DIGEST"]).toContain(code);
          for (const { digest } of (await bed.store.list()).images) expect(digest).toBe(sha256(eif));
        },
      ),
      { numRuns: 300 },
    );
    await bed.wholeImages();
  });

  test("any bytes for a tar, and any JSON in one, are refused", async () => {
    await using bed = await openStoreBed();
    const anyJson = fc.jsonValue().map((value) => makeArchive([{}], { index: () => value }));
    const anyManifest = fc
      .dictionary(fc.string(), fc.jsonValue())
      .map((value) => makeArchive([{ manifest: () => value }]));
    const wrong = fc.jsonValue().filter((value) => typeof value !== "string" && typeof value !== "number");
    const anyInfo = fc
      .tuple(fc.constantFrom("name", "mode", "sizeBytes", "digest"), wrong)
      .map(([key, value]) => makeArchive([{ info: { [key]: value } }]));
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.uint8Array({ maxLength: 3000 }), anyJson, anyManifest, anyInfo),
        async (bytes) => {
          expect(["E_STORE_ARCHIVE", "E_STORE_DIGEST"]).toContain(
            await codeOf(bed.store.load(chunksOf(bytes))),
          );
        },
      ),
      { numRuns: 200 },
    );
    expect(await bed.store.list()).toEqual({ images: [], damaged: [] });
    expect(await bed.temporaries()).toEqual([]);
  });

  test("a source that fails in the middle leaves nothing", async () => {
    await using bed = await openStoreBed();
    const archive = makeArchive([{}]);
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield* chunksOf(archive.subarray(0, 3000));
      throw new Error("the network went");
    }
    await expect(bed.store.load(failing())).rejects.toThrow("the network went");
    expect(await bed.temporaries()).toEqual([]);
  });

  test("of an image that is there already its tag is taken, and what the archive says otherwise is not", async () => {
    await using bed = await openStoreBed();
    const eif = randomBytes(100);
    const first = await bed.add(["mine"], eif);
    const [loaded] = await bed.store.load(chunksOf(makeArchive([{ eif, info: { mode: "production" } }])));
    expect(loaded).toEqual({ ...first, tags: ["made:1", "mine:latest"] });
  });
});

describe("files of the user", () => {
  test("an archive replaces a file in one step, and is readable as the umask says", async () => {
    await using bed = await openStoreBed();
    await bed.add(["a"]);
    await writeFile(bed.path("a.tar"), "old");
    await writeUserFile(bed.path("a.tar"), (await bed.store.save(["a"])).stream());
    expect((await stat(bed.path("a.tar"))).size).toBe((await bed.store.save(["a"])).totalBytes);
    expect((await readdir(bed.directory)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("what cannot be written or read is refused with its path", async () => {
    await using bed = await openStoreBed();
    const empty = (): AsyncIterable<Uint8Array> => chunksOf(Buffer.alloc(0));
    for (const path of [bed.path("absent", "a.tar"), bed.directory])
      await expect(writeUserFile(path, empty())).rejects.toMatchObject({
        code: "E_STORE_FILE",
        message: expect.stringContaining(path),
      });
    for (const path of [bed.path("absent"), bed.directory])
      expect(await codeOf(bed.store.load(readUserFile(path)))).toBe("E_STORE_FILE");
  });

  test("what is no file is written to as it is", async () => {
    await using bed = await openStoreBed();
    await bed.add(["a"]);
    await writeUserFile("/dev/null", (await bed.store.save(["a"])).stream());
    expect((await stat("/dev/null")).isCharacterDevice()).toBe(true);
  });
});
