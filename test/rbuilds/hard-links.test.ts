import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { FileTree } from "../../rbuilds/file-tree.ts";
import { codeOf, openRootfsTestbed, rawTar, type RootfsTestbed } from "./rootfs-testbed.ts";

let bed: RootfsTestbed;
beforeAll(async () => {
  bed = await openRootfsTestbed();
});
afterAll(() => bed[Symbol.asyncDispose]());

const LOWER = rawTar([
  { name: "a", content: "old", mode: 0o755, uid: 7 },
  { name: "d/", type: "5" },
  { name: "d/b", type: "1", link: "a" },
  { name: "c", type: "1", link: "d/b" },
]);

describe("a file with several names", () => {
  test("lives on under the others when a layer removes the first", async () => {
    const tree = await bed.apply([LOWER, rawTar([{ name: ".wh.a" }])]);
    expect(tree.get("/c")).toMatchObject({ type: "file", mode: 0o755, uid: 7 });
    expect(tree.get("/d/b")).toMatchObject({ type: "hardlink", target: "/c", mode: 0o755, uid: 7 });
    expect(await bed.text(tree, "/c")).toBe("old");
  });

  test("keeps its content under the others when a layer brings another file under the first", async () => {
    const tree = await bed.apply([LOWER, rawTar([{ name: "a", content: "new", mode: 0o600 }])]);
    expect(await bed.text(tree, "/a")).toBe("new");
    expect(await bed.text(tree, "/c")).toBe("old");
    expect(tree.get("/c")).toMatchObject({ mode: 0o755 });
  });

  test("keeps its mode under the others when a layer brings the same content with another mode", async () => {
    const tree = await bed.apply([LOWER, rawTar([{ name: "a", content: "old", mode: 0o600 }])]);
    expect(tree.get("/a")).toMatchObject({ type: "file", mode: 0o600 });
    expect(tree.get("/c")).toMatchObject({ type: "file", mode: 0o755 });
  });

  test("is linked again by the layer that brings it again with all names", async () => {
    const tree = await bed.apply([
      LOWER,
      rawTar([
        { name: "d/b", content: "new" },
        { name: "a", type: "1", link: "d/b" },
      ]),
    ]);
    expect(tree.get("/a")).toMatchObject({ type: "hardlink", target: "/d/b" });
    expect(await bed.text(tree, "/d/b")).toBe("new");
    expect(await bed.text(tree, "/c")).toBe("old");
  });

  test("goes when the last name goes, with the directory that held it", async () => {
    const tree = await bed.apply([LOWER, rawTar([{ name: ".wh.a" }, { name: ".wh.c" }, { name: ".wh.d" }])]);
    expect(tree.entries().map((entry) => entry.path)).toEqual(["/"]);
  });

  test("is no target of a link that takes the place of the directory above it", async () => {
    const archive = rawTar([
      { name: "d/x", content: "1" },
      { name: "d", type: "1", link: "d/x" },
    ]);
    expect(await codeOf(bed.apply([archive]))).toBe("E_IMAGE_TAR_LINK");
  });

  test("is changed under all names by set, also where a link was set before its file", () => {
    const tree = new FileTree();
    const owner = { mode: 0o644, uid: 0, gid: 0 };
    const file = { ...owner, type: "file", path: "/z", digest: "ab".repeat(32), size: 1 } as const;
    tree.set({ ...owner, type: "hardlink", path: "/a", target: "/z" });
    tree.set(file);
    tree.set({ ...file, mode: 0o4755, uid: 3 });
    expect(tree.get("/a")).toMatchObject({ type: "hardlink", target: "/z", mode: 0o4755, uid: 3 });
    tree.set({ ...owner, type: "symlink", path: "/z", target: "x" });
    expect(tree.get("/a")).toMatchObject({ type: "file", mode: 0o4755, digest: file.digest });
  });
});

describe("a whiteout hides lower layers and nothing else", () => {
  const lower = rawTar([
    { name: "d/", type: "5" },
    { name: "d/old", content: "1" },
    { name: "f", content: "1" },
  ]);
  const paths = async (upper: Parameters<typeof rawTar>[0]): Promise<string[]> =>
    (await bed.apply([lower, rawTar(upper)])).entries().map((entry) => entry.path);

  test("when it stands behind what its layer brings below the same name", async () => {
    expect(await paths([{ name: "d/new", content: "2" }, { name: ".wh.d" }])).toEqual([
      "/",
      "/d",
      "/d/new",
      "/f",
    ]);
  });

  test("when its layer brings the directory again", async () => {
    expect(await paths([{ name: "d/", type: "5" }, { name: ".wh.d" }])).toEqual(["/", "/d", "/f"]);
    expect(await paths([{ name: ".wh.d" }, { name: "d/", type: "5" }])).toEqual(["/", "/d", "/f"]);
  });

  test("when its layer brings the file again", async () => {
    expect(await paths([{ name: "f", content: "2" }, { name: ".wh.f" }])).toEqual([
      "/",
      "/d",
      "/d/old",
      "/f",
    ]);
  });
});
