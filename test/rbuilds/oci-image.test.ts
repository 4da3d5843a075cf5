import { createHash } from "node:crypto";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { FileTree } from "../../rbuilds/file-tree.ts";
import type { ImageDefaults } from "../../rbuilds/image-facts.ts";
import { importOciImage } from "../../rbuilds/oci-image.ts";
import { codeOf, openRootfsTestbed, rawTar, run, type RootfsTestbed } from "./rootfs-testbed.ts";

let bed: RootfsTestbed;
beforeAll(async () => {
  bed = await openRootfsTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

type Files = Map<string, Buffer>;

const digestOf = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

/** A blob of the layout and the descriptor that names it. */
function addBlob(files: Files, bytes: Buffer, mediaType: string): Record<string, unknown> {
  const digest = digestOf(bytes);
  files.set(`blobs/sha256/${digest}`, bytes);
  return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

const LOWER = rawTar([
  { name: "etc/", type: "5" },
  { name: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\n" },
  { name: "old", content: "o" },
]);
const UPPER = rawTar([{ name: ".wh.old" }, { name: "app", content: "#!/bin/sh", mode: 0o755, uid: 1000 }]);

interface LayoutOptions {
  readonly architecture?: string;
  /** Changes files after the layout is whole. */
  readonly damage?: (files: Files) => void;
  /** Layers with their compression. */
  readonly layers?: readonly Buffer[];
  readonly nested?: number;
}

function makeLayout(options: LayoutOptions = {}): Files {
  const files: Files = new Map([["oci-layout", json({ imageLayoutVersion: "1.0.0" })]]);
  const layers = options.layers ?? [gzipSync(LOWER), zstdCompressSync(UPPER)];
  const config = {
    architecture: options.architecture ?? "amd64",
    os: "linux",
    config: {
      Entrypoint: ["/app"],
      Cmd: ["--serve"],
      Env: ["A=1", "PATH=/x=y"],
      WorkingDir: "/srv",
      User: "1000:50",
    },
    rootfs: { type: "layers", diff_ids: [LOWER, UPPER].map((layer) => `sha256:${digestOf(layer)}`) },
  };
  const manifest = {
    schemaVersion: 2,
    config: addBlob(files, json(config), "application/vnd.oci.image.config.v1+json"),
    layers: layers.map((layer) => addBlob(files, layer, "application/vnd.oci.image.layer.v1.tar")),
  };
  let descriptor = addBlob(files, json(manifest), "application/vnd.oci.image.manifest.v1+json");
  descriptor = { ...descriptor, platform: { os: "linux", architecture: options.architecture ?? "amd64" } };
  for (let level = 0; level < (options.nested ?? 0); level += 1) {
    const index = { schemaVersion: 2, manifests: [descriptor] };
    descriptor = addBlob(files, json(index), "application/vnd.oci.image.index.v1+json");
  }
  files.set("index.json", json({ schemaVersion: 2, manifests: [descriptor] }));
  options.damage?.(files);
  return files;
}

async function writeLayout(name: string, files: Files): Promise<string> {
  const root = bed.path(name);
  for (const [path, bytes] of files) {
    await mkdir(dirname(`${root}/${path}`), { recursive: true });
    await writeFile(`${root}/${path}`, bytes);
  }
  return root;
}

async function importFrom(path: string): Promise<{ tree: FileTree; defaults: ImageDefaults }> {
  const tree = new FileTree();
  const platform = { os: "linux", architecture: "amd64" } as const;
  return { tree, defaults: await importOciImage(path, { tree, blobs: bed.blobs, platform }) };
}

function expectImage({ tree, defaults }: { tree: FileTree; defaults: ImageDefaults }): void {
  expect(tree.entries().map((entry) => entry.path)).toEqual(["/", "/app", "/etc", "/etc/passwd"]);
  expect(tree.get("/app")).toMatchObject({ mode: 0o755, uid: 1000 });
  expect(defaults).toEqual({
    entrypoint: ["/app"],
    cmd: ["--serve"],
    env: { A: "1", PATH: "/x=y" },
    workingDir: "/srv",
    user: "1000:50",
  });
}

describe("an image is the same in every form", () => {
  test("layout directory, with gzip and zstd layers", async () => {
    expectImage(await importFrom(await writeLayout("layout", makeLayout())));
  });

  test("tar of a layout, with plain layers and nested indexes", async () => {
    const root = await writeLayout("plain", makeLayout({ layers: [LOWER, UPPER], nested: 3 }));
    await run("tar", ["-C", root, "-cf", bed.path("layout.tar"), "."]);
    expectImage(await importFrom(bed.path("layout.tar")));
  });

  test("docker save", async () => {
    const layout = makeLayout({ layers: [LOWER, UPPER] });
    const config = [...layout.values()].find((bytes) => bytes.includes("diff_ids")) ?? Buffer.alloc(0);
    const files: Files = new Map([
      [`${digestOf(config)}.json`, config],
      ["one/layer.tar", LOWER],
      ["two/layer.tar", UPPER],
      [
        "manifest.json",
        json([
          {
            Config: `${digestOf(config)}.json`,
            RepoTags: ["x:1"],
            Layers: ["one/layer.tar", "two/layer.tar"],
          },
        ]),
      ],
    ]);
    const root = await writeLayout("docker", files);
    await run("tar", ["-C", root, "-cf", bed.path("docker.tar"), "."]);
    expectImage(await importFrom(bed.path("docker.tar")));
  });
});

interface SavedImage {
  readonly config?: Record<string, unknown>;
  readonly layers: readonly Buffer[];
  /** Layers after the first are links to the first, as docker saves a layer that it has twice. */
  readonly linked?: boolean;
}

/** An archive as `docker save` wrote it before it had a layout inside. */
async function dockerSave(name: string, { config, layers, linked }: SavedImage): Promise<string> {
  const diffIds = layers.map((layer) => `sha256:${digestOf(layer)}`);
  const configuration = json({
    os: "linux",
    architecture: "amd64",
    rootfs: { diff_ids: diffIds },
    ...config,
  });
  const files: Files = new Map([[`${digestOf(configuration)}.json`, configuration]]);
  for (const [index, layer] of layers.entries()) {
    if (linked !== true || index === 0) files.set(`${index}/layer.tar`, layer);
  }
  const Layers = layers.map((_, index) => `${index}/layer.tar`);
  files.set("manifest.json", json([{ Config: `${digestOf(configuration)}.json`, Layers }]));
  const root = await writeLayout(name, files);
  for (const index of linked === true ? [...layers.keys()].slice(1) : []) {
    await mkdir(`${root}/${index}`);
    await symlink("../0/layer.tar", `${root}/${index}/layer.tar`);
  }
  await run("tar", ["-C", root, "-cf", bed.path(`${name}.tar`), "."]);
  return bed.path(`${name}.tar`);
}

describe("docker save", () => {
  const layerOf = (index: number): Buffer => rawTar([{ name: `file-${index}`, content: String(index) }]);

  test("with many layers gives every one of them, and Node nothing to warn of", async () => {
    const warnings: string[] = [];
    const listen = (warning: Error): void => void warnings.push(warning.message);
    process.on("warning", listen);
    try {
      const layers = Array.from({ length: 15 }, (_, index) => layerOf(index));
      const { tree } = await importFrom(await dockerSave("many", { layers }));
      expect(tree.entries()).toHaveLength(16);
      await setImmediate();
      expect(warnings.filter((message) => message.includes("listeners"))).toEqual([]);
    } finally {
      process.off("warning", listen);
    }
  });

  test("with links between equal layers", async () => {
    const { tree } = await importFrom(
      await dockerSave("equal", { layers: [layerOf(1), layerOf(1)], linked: true }),
    );
    expect(tree.get("/file-1")?.type).toBe("file");
  });

  test("of another processor, which only the configuration tells", async () => {
    const saved = dockerSave("arm", { layers: [layerOf(1)], config: { architecture: "arm64" } });
    await expect(importFrom(await saved)).rejects.toMatchObject({
      code: "E_IMAGE_OCI_PLATFORM",
      message: expect.stringContaining("linux/arm64"),
    });
  });

  test.each([
    ["gzip", gzipSync],
    ["zstd", zstdCompressSync],
  ])("compressed with %s is refused with the program that mends it", async (form, encode) => {
    const saved = await dockerSave(`packed-${form}`, { layers: [layerOf(1)] });
    await writeFile(`${saved}.${form}`, encode(await readFile(saved)));
    await expect(importFrom(`${saved}.${form}`)).rejects.toMatchObject({
      code: "E_IMAGE_OCI",
      hint: expect.stringContaining(form === "gzip" ? "gunzip" : "unzstd"),
    });
  });

  test("is not read further once cancelled", async () => {
    const saved = await dockerSave("cancelled", { layers: [layerOf(1)] });
    const platform = { os: "linux", architecture: "amd64" } as const;
    const options = { tree: new FileTree(), blobs: bed.blobs, platform, signal: AbortSignal.abort() };
    await expect(importOciImage(saved, options)).rejects.toThrow(
      expect.objectContaining({ name: "AbortError" }),
    );
  });
});

describe("an index with several entries", () => {
  const editIndex =
    (change: (manifests: Record<string, unknown>[]) => unknown[]) =>
    (files: Files): void => {
      const index: { manifests: Record<string, unknown>[] } = JSON.parse(String(files.get("index.json")));
      files.set("index.json", json({ schemaVersion: 2, manifests: change(index.manifests) }));
    };
  const other = `sha256:${"0".repeat(64)}`;
  const importEdited = async (name: string, change: Parameters<typeof editIndex>[0]) =>
    await importFrom(await writeLayout(name, makeLayout({ damage: editIndex(change) })));

  test("that are tags of one image is that image", async () => {
    expectImage(await importEdited("tags", ([one]) => [one, { ...one, annotations: { tag: "second" } }]));
  });

  test("that are two images leaves open which is meant", async () => {
    const both = importEdited("two", ([one]) => [one, { ...one, digest: other }]);
    await expect(both).rejects.toMatchObject({
      code: "E_IMAGE_OCI",
      message: expect.stringContaining("2 images"),
    });
  });

  test("prefers our platform to none, and the basic variant to others", async () => {
    expectImage(
      await importEdited("preferred", ([one]) => [
        { ...one, digest: other, platform: undefined },
        { ...one, digest: other, platform: { os: "linux", architecture: "amd64", variant: "v3" } },
        { ...one, digest: other, platform: { os: "unknown", architecture: "unknown" } },
        one,
      ]),
    );
  });
});

describe("refusals", () => {
  const layerOf = (files: Files): string =>
    [...files.keys()].findLast((name) => name.startsWith("blobs/")) ?? "";
  const edit =
    (name: string, change: (value: string) => string) =>
    (files: Files): void => {
      files.set(name, Buffer.from(change(files.get(name)?.toString() ?? "")));
    };
  const cases: readonly (readonly [string, LayoutOptions, string])[] = [
    [
      "a blob with other bytes",
      { damage: (files) => files.set(layerOf(files), Buffer.alloc(files.get(layerOf(files))?.length ?? 0)) },
      "E_IMAGE_OCI_DIGEST",
    ],
    [
      "a blob of another size",
      { damage: (files) => files.set(layerOf(files), Buffer.from("{}")) },
      "E_IMAGE_OCI_DIGEST",
    ],
    ["a missing blob", { damage: (files) => files.delete(layerOf(files)) }, "E_IMAGE_OCI"],
    ["layers in the wrong order", { layers: [UPPER, LOWER] }, "E_IMAGE_OCI_DIGEST"],
    ["another processor", { architecture: "s390x" }, "E_IMAGE_OCI_PLATFORM"],
    ["indexes without end", { nested: 9 }, "E_IMAGE_OCI"],
    ["no index", { damage: (files) => files.delete("index.json") }, "E_IMAGE_OCI"],
    ["an index that is no JSON", { damage: edit("index.json", () => "{") }, "E_IMAGE_OCI"],
    [
      "a digest that is none",
      { damage: edit("index.json", (text) => text.replace("sha256:", "sha256:../")) },
      "E_IMAGE_OCI",
    ],
    [
      "a list in the place of text",
      { damage: edit("index.json", (text) => text.replace(/"digest":"[^"]*"/, '"digest":[]')) },
      "E_IMAGE_OCI",
    ],
  ];
  test.each(cases)("%s", async (title, options, code) => {
    const root = await writeLayout(title.replaceAll(" ", "-"), makeLayout(options));
    expect(await codeOf(importFrom(root))).toBe(code);
  });

  test("what is no image, and what does not exist", async () => {
    await writeFile(bed.path("text"), "hello".repeat(1000));
    expect(await codeOf(importFrom(bed.path("text")))).toBe("E_IMAGE_TAR");
    expect(await codeOf(importFrom(bed.path("nothing")))).toBe("E_CONFIG_FILE_MISSING");
    await writeFile(bed.path("gzip.tar.gz"), gzipSync(LOWER));
    expect(await codeOf(importFrom(bed.path("gzip.tar.gz")))).toBe("E_IMAGE_OCI");
  });

  test("docker save with a path that leads outside", async () => {
    const manifest = json([{ Config: "../../etc/passwd", Layers: [] }]);
    const root = await writeLayout("outside", new Map([["manifest.json", manifest]]));
    expect(await codeOf(importFrom(root))).toBe("E_IMAGE_OCI");
  });
});
