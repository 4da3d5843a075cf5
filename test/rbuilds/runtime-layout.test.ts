import { chmod, mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { resolvePackages } from "../../rbuilds/apt.ts";
import { type BlobStore, openBlobStore } from "../../rbuilds/blob-store.ts";
import { canonicalJson } from "../../rbuilds/canonical-json.ts";
import { buildDebianBase } from "../../rbuilds/debian-base.ts";
import { importFile } from "../../rbuilds/file-import.ts";
import { FileTree } from "../../rbuilds/file-tree.ts";
import type { LockedPackage } from "../../rbuilds/locked-package.ts";
import { manifestDigest } from "../../rbuilds/manifest-file.ts";
import { addRuntime, nodeCommand, type RuntimeOptions } from "../../rbuilds/runtime.ts";
import {
  openRuntimeLibraries,
  resolveRuntimeLibraries,
  type RuntimeLibraries,
} from "../../rbuilds/runtime-libraries.ts";
import { CONFIG_VERSION, type EnclaveConfig } from "../../wire/enclave-config.ts";
import { NO_EGRESS } from "../../wire/egress-policy.ts";
import { RUNTIME } from "../../wire/runtime-layout.ts";
import { ARCHITECTURE, sharedCache } from "../fixtures/rbuilds/debian-testbed.ts";
import { runInRoot, writeTree } from "../fixtures/rbuilds/written-tree.ts";

const isRoot = process.getuid?.() === 0;
const CONFIG: EnclaveConfig = {
  version: CONFIG_VERSION,
  name: "hello",
  mode: "development",
  attestation: "development",
  services: [],
  ingressPorts: [8080],
  egress: NO_EGRESS,
  logs: { ship: true },
  clientCa: null,
  build: { toolkit: "0.0.0", lock: null },
  singleUser: false,
};
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "runtime-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function writeSources(): Promise<Omit<RuntimeOptions, "libraries">> {
  const source = async (name: string): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, `content of ${name}`);
    return path;
  };
  const files = {
    node: await source("node"),
    init: await source("init"),
    serviceExec: await source("serviceExec"),
    nsmDevice: await source("nsmDevice"),
    addon: await source("addon"),
    supervisor: await source("supervisor"),
    gateway: await source("gateway"),
    gatewayApi: await source("gatewayApi"),
    gatewayShared: await source("gatewayShared"),
    raServer: await source("raServer"),
    archive: await source("archive"),
    initctl: await source("initctl"),
    initctlProgram: await source("initctlProgram"),
  };
  return { ...files, config: CONFIG, cacheDir: directory };
}

describe("the runtime of an image", () => {
  const libraries: RuntimeLibraries = {
    loader: { digest: "a".repeat(64), size: 1 },
    libraries: [{ name: "libc.so.6", digest: "b".repeat(64), size: 1 }],
  };

  async function add(options: Partial<RuntimeOptions> = {}, tree = new FileTree()) {
    const blobs = await openBlobStore(join(directory, "blobs"));
    await addRuntime(tree, blobs, { ...(await writeSources()), libraries, ...options });
    const text = async (path: string): Promise<string> => {
      const entry = tree.get(path);
      return entry?.type === "file" ? (await blobs.read(entry.digest, 65_536)).toString() : "";
    };
    return { tree, text };
  }

  test("lies at the places of the layout, root's, programs 0755, the rest 0644, and the configuration for the supervisor alone", async () => {
    const { tree, text } = await add();
    const programs = [
      RUNTIME.init,
      RUNTIME.serviceExec,
      RUNTIME.nsmDevice,
      RUNTIME.node,
      RUNTIME.loader,
      RUNTIME.initctlProgram,
    ];
    const others = [
      RUNTIME.addon,
      RUNTIME.supervisor,
      RUNTIME.gateway,
      RUNTIME.gatewayApi,
      RUNTIME.gatewayShared,
      RUNTIME.archive,
      RUNTIME.initctl,
      RUNTIME.supervisorArgv,
    ];
    expect(tree.get(RUNTIME.config)).toMatchObject({ type: "file", mode: 0o600, uid: 0, gid: 0 });
    for (const path of programs)
      expect(tree.get(path)).toMatchObject({ type: "file", mode: 0o755, uid: 0, gid: 0 });
    for (const path of others)
      expect(tree.get(path)).toMatchObject({ type: "file", mode: 0o644, uid: 0, gid: 0 });
    expect(tree.get(`${RUNTIME.libraries}/libc.so.6`)).toMatchObject({ digest: "b".repeat(64) });
    expect(await text(RUNTIME.serviceExec)).toBe("content of serviceExec");
  });

  test("starts the supervisor through the private loader", async () => {
    const { text } = await add();
    expect(await text(RUNTIME.supervisorArgv)).toBe(
      "/opt/enclave/lib/ld.so\n--library-path\n/opt/enclave/lib\n--argv0\nsupervisor\n" +
        "/opt/enclave/bin/node\n--max-semi-space-size=2\n/opt/enclave/supervisor.mjs\n",
    );
  });

  test("starts the supervisor plainly where the libraries are the host's", async () => {
    const { text, tree } = await add({ libraries: "host" });
    expect(await text(RUNTIME.supervisorArgv)).toBe(
      "/opt/enclave/bin/node\n--max-semi-space-size=2\n/opt/enclave/supervisor.mjs\n",
    );
    expect(tree.get(RUNTIME.loader)).toBeUndefined();
  });

  test("replaces what the image has in its folder", async () => {
    const tree = new FileTree();
    tree.set({
      type: "file",
      path: "/opt/enclave/lib/evil.so",
      mode: 0o644,
      uid: 0,
      gid: 0,
      digest: "c".repeat(64),
      size: 1,
    });
    await add({}, tree);
    expect(tree.get("/opt/enclave/lib/evil.so")).toBeUndefined();
  });

  test("holds the configuration as canonical JSON and is the same every time", async () => {
    const first = await add();
    const shuffled = Object.fromEntries(Object.entries(CONFIG).toReversed());
    expect(canonicalJson(shuffled)).toBe(canonicalJson(CONFIG));
    expect(await first.text(RUNTIME.config)).toBe(`${canonicalJson(CONFIG)}\n`);
    expect(manifestDigest((await add()).tree.toManifest())).toBe(manifestDigest(first.tree.toManifest()));
  });

  test("names the file that is missing", async () => {
    const gateway = join(directory, "absent");
    await expect(add({ gateway })).rejects.toMatchObject({
      code: "E_IMAGE_RUNTIME",
      message: expect.stringContaining(gateway),
    });
  });

  test("gets the folders that init mounts over, also in an empty image", async () => {
    const { tree } = await add();
    for (const path of ["/proc", "/sys", "/dev", "/run", "/tmp"])
      expect(tree.get(path)?.type).toBe("directory");
  });
});

describe("canonical JSON", () => {
  test("sorts keys at every depth and keeps the order of lists", () => {
    expect(canonicalJson({ b: [{ d: 1, c: undefined }], a: null })).toBe('{"a":null,"b":[{"d":1}]}');
  });
});

describe("importing files", () => {
  test("reads a file once, and again when it has changed", async () => {
    const store = await openBlobStore(join(directory, "blobs"));
    let reads = 0;
    const blobs: BlobStore = {
      ...store,
      putFile: (path, options) => {
        reads += 1;
        return store.putFile(path, options);
      },
    };
    const path = join(directory, "file");
    await writeFile(path, "one");
    const options = { blobs, cacheDir: directory };
    const first = await importFile(path, options);
    expect(await importFile(path, options)).toEqual(first);
    expect(reads).toBe(1);
    // Same size; another time of change.
    await writeFile(path, "two");
    await utimes(path, 1, 1);
    expect((await importFile(path, options)).digest).not.toBe(first.digest);
    expect(reads).toBe(2);
  });

  test("reads a file again when the store has lost it", async () => {
    const path = join(directory, "file");
    await writeFile(path, "one");
    const options = { blobs: await openBlobStore(join(directory, "blobs")), cacheDir: directory };
    const { digest } = await importFile(path, options);
    await chmod(options.blobs.path(digest), 0o600);
    await rm(options.blobs.path(digest));
    expect(await importFile(path, options)).toMatchObject({ digest });
    expect(await options.blobs.has(digest)).toBe(true);
  });

  test("refuses a folder", async () => {
    const options = { blobs: await openBlobStore(join(directory, "blobs")), cacheDir: directory };
    await expect(importFile(directory, options)).rejects.toMatchObject({ code: "E_IMAGE_RUNTIME" });
  });
});

describe("Node's own libraries", () => {
  const node = process.execPath;
  const cacheDir = sharedCache();
  let blobs: BlobStore;
  let locked: readonly LockedPackage[];

  beforeAll(async () => {
    blobs = await openBlobStore(join(cacheDir, "blobs"));
    locked = await resolveRuntimeLibraries({ architecture: ARCHITECTURE, cacheDir });
  });

  test("come from four packages and what those need, without a base", () => {
    const names = locked.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["libatomic1", "libc6", "libgcc-s1", "libstdc++6"]));
    expect(names).not.toContain("base-files");
    expect(names.length).toBeLessThan(8);
  });

  test("are all that Node needs, and the loader", async () => {
    const found = await openRuntimeLibraries(locked, { architecture: ARCHITECTURE, cacheDir, blobs, node });
    const names = found.libraries.map(({ name }) => name);
    expect(names).toEqual([...names].sort());
    expect(names).toEqual(
      expect.arrayContaining(["libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6"]),
    );
    expect(await blobs.has(found.loader.digest)).toBe(true);
  });

  test("are refused for a program that is not dynamic", async () => {
    const script = join(directory, "script");
    await writeFile(script, "#!/bin/sh\n");
    await expect(
      openRuntimeLibraries(locked, { architecture: ARCHITECTURE, cacheDir, blobs, node: script }),
    ).rejects.toMatchObject({ code: "E_IMAGE_RUNTIME" });
  });

  test("are refused when a library is in no package", async () => {
    const lacking = locked.filter(({ name }) => name !== "libstdc++6");
    await expect(
      openRuntimeLibraries(lacking, { architecture: ARCHITECTURE, cacheDir, blobs, node }),
    ).rejects.toMatchObject({ code: "E_IMAGE_RUNTIME", message: expect.stringContaining("libstdc++.so.6") });
  });

  describe.skipIf(!isRoot)("in images (root: chroot)", () => {
    let root: string;

    beforeAll(async () => {
      root = await mkdtemp(join(tmpdir(), "runtime-root-"));
    });
    afterAll(async () => {
      await rm(root, { recursive: true, force: true });
    });

    async function materialise(tree: FileTree): Promise<RuntimeLibraries> {
      const libraries = await openRuntimeLibraries(locked, {
        architecture: ARCHITECTURE,
        cacheDir,
        blobs,
        node,
      });
      const sources = await writeSources();
      await addRuntime(tree, blobs, { ...sources, node, cacheDir, libraries });
      await rm(root, { recursive: true });
      await writeTree(tree, blobs, root);
      return libraries;
    }

    test("run Node where the image has no library at all", async () => {
      const libraries = await materialise(new FileTree());
      const [...command] = nodeCommand(libraries, "-p", "a-name");
      expect(await runInRoot(root, [...command, "process.argv0 + 6 * 7"])).toEqual({
        status: 0,
        output: "a-name42\n",
      });
    });

    test("run Node beside a Debian base, where Node runs directly too", async () => {
      const tree = new FileTree();
      const base = await resolvePackages([], { architecture: ARCHITECTURE, cacheDir });
      await buildDebianBase(base, { tree, blobs, cacheDir, architecture: ARCHITECTURE });
      const libraries = await materialise(tree);
      expect(await runInRoot(root, [RUNTIME.node, "-p", "6 * 7"])).toEqual({ status: 0, output: "42\n" });
      const [...command] = nodeCommand(libraries, "-p", "a-name");
      expect(await runInRoot(root, [...command, "6 * 7"])).toEqual({ status: 0, output: "42\n" });
    });
  });
});
