import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { digestKernelFiles, openGivenKernel } from "../../rbuilds/kernel/given-kernel.ts";
import { checkKernelFeatures, findUnmet, parseKernelConfig } from "../../rbuilds/kernel/kernel-config.ts";
import { DEFAULT_FEATURES } from "../../rbuilds/kernel/kernel-features.ts";
import { chooseModules } from "../../rbuilds/kernel/kernel-modules.ts";

const FINISHED = `#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.12.117 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="gcc (Debian 12.2.0-14) 12.2.0"
CONFIG_VSOCKETS=y
CONFIG_TUN=m
CONFIG_NR_CPUS=128
# CONFIG_MODULES is not set
`;

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "kernel-"));
});
afterAll(async () => await rm(directory, { recursive: true }));

describe("a kernel's configuration", () => {
  test("tells version and options", () => {
    const { version, options } = parseKernelConfig(FINISHED);
    expect(version).toBe("6.12.117");
    expect(Object.fromEntries(options)).toEqual({
      CC_VERSION_TEXT: '"gcc (Debian 12.2.0-14) 12.2.0"',
      VSOCKETS: "y",
      TUN: "m",
      NR_CPUS: "128",
    });
  });

  test("shows which lines of a fragment it did not take", () => {
    const fragment = "CONFIG_VSOCKETS=y\nCONFIG_TUN=y\nCONFIG_MODULES=n\nCONFIG_NSM=y\n# CONFIG_X=y\n";
    expect(findUnmet(fragment, parseKernelConfig(FINISHED))).toEqual(["CONFIG_TUN=y", "CONFIG_NSM=y"]);
  });

  test("without a needed feature is refused by the names of all that it lacks", () => {
    const complete = DEFAULT_FEATURES.map(({ option }) => `CONFIG_${option}=y`).join("\n");
    const check = { source: "vmlinuz", modules: [] };
    expect(() => checkKernelFeatures(parseKernelConfig(complete), check)).not.toThrow();
    const lacking = complete.replace("CONFIG_VSOCKETS=y", "").replace("CONFIG_MEMCG=y", "CONFIG_MEMCG=m");
    expect(() => checkKernelFeatures(parseKernelConfig(lacking), check)).toThrow(
      expect.objectContaining({ code: "E_KERNEL_FEATURE", details: { missing: ["MEMCG", "VSOCKETS"] } }),
    );
  });

  test("has a feature as a module only if that module is loaded", () => {
    const modular = DEFAULT_FEATURES.map(
      ({ option, module }) => `CONFIG_${option}=${module === undefined ? "y" : "m"}`,
    ).join("\n");
    const modules = DEFAULT_FEATURES.flatMap(({ module }) => module ?? []);
    const config = parseKernelConfig(modular);
    expect(() => checkKernelFeatures(config, { source: "vmlinuz", modules })).not.toThrow();
    expect(() => checkKernelFeatures(config, { source: "vmlinuz", modules: modules.slice(1) })).toThrow(
      expect.objectContaining({ code: "E_KERNEL_FEATURE" }),
    );
  });

  test("of the toolkit asks for everything that it calls needed", async () => {
    const path = join(import.meta.dirname, "..", "..", "native", "kernel", "x86_64.config");
    const { options } = parseKernelConfig(await readFile(path, "utf8"));
    // NAMESPACES and the like stand there; what "y" of others selects is seen when the kernel is built.
    const missing = DEFAULT_FEATURES.filter(({ option }) => options.get(option) !== "y");
    expect(missing.map(({ option }) => option)).toEqual([]);
  });
});

describe("modules of a distribution's kernel", () => {
  test("come with what they need, in the order of loading", async () => {
    const folder = join(directory, "modules");
    await mkdir(folder);
    const lines = [
      "kernel/net/vmw_vsock/vsock.ko.xz:",
      "kernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko.xz: kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko.xz kernel/net/vmw_vsock/vsock.ko.xz",
      "kernel/net/vmw_vsock/vmw_vsock_virtio_transport_common.ko.xz: kernel/net/vmw_vsock/vsock.ko.xz",
      "kernel/drivers/virtio/virtio_mmio.ko.xz:",
      "kernel/drivers/gpu/drm/drm.ko.xz:",
      "",
    ];
    await writeFile(join(folder, "modules.dep"), lines.join("\n"));
    expect((await chooseModules(folder)).map((module) => module.name)).toEqual([
      "virtio_mmio",
      "vsock",
      "vmw_vsock_virtio_transport_common",
      "vmw_vsock_virtio_transport",
    ]);
  });

  test("outside of the folder are refused", async () => {
    const folder = join(directory, "escaping");
    await mkdir(folder);
    await writeFile(join(folder, "modules.dep"), "../../../etc/vsock.ko:\n");
    await expect(chooseModules(folder)).rejects.toMatchObject({ code: "E_KERNEL_FILE" });
    await expect(chooseModules(join(directory, "none"))).rejects.toMatchObject({ code: "E_KERNEL_FILE" });
  });
});

describe("the files of a nitro-cli installation", () => {
  test("become a kernel with their command line and driver, named by their digests", async () => {
    const folder = join(directory, "blobs");
    await mkdir(folder);
    const files = {
      bzImage: "kernel",
      "bzImage.config": FINISHED,
      cmdline: "reboot=k panic=30\n",
      "nsm.ko": "elf",
    };
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const spec = { kind: "blobs", directory: folder } as const;
    const kernel = await openGivenKernel(spec, await openBlobStore(join(directory, "store")));
    expect(kernel).toMatchObject({ commandLine: "reboot=k panic=30", config: FINISHED, image: { size: 6 } });
    expect(kernel.modules.map((module) => module.name)).toEqual(["nsm"]);
    expect(Object.keys(await digestKernelFiles(spec))).toEqual(Object.keys(files));
    await rm(join(folder, "cmdline"));
    await expect(digestKernelFiles(spec)).rejects.toMatchObject({
      code: "E_KERNEL_FILE",
      message: expect.stringContaining("cmdline"),
    });
  });
});
