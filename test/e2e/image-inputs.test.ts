import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { resolvePackages } from "../../rbuilds/apt.ts";
import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { openPackages } from "../../rbuilds/debian-packages.ts";
import { ARCHITECTURE, sharedCache } from "../fixtures/rbuilds/debian-testbed.ts";
import { readIndependently } from "../independent-eif/image-reader.ts";
import { listRamdisk } from "../independent-eif/ramdisk-lister.ts";
import { DEFAULT_CACHE, type ImageBed, openImageBed } from "./image-testbed.ts";
import { packImage } from "./oci-archive.ts";

const FIRST_BUILD_MS = 2_400_000;

let bed: ImageBed;
let hello = "";

beforeAll(async () => {
  bed = await openImageBed();
  hello = await bed.project("hello");
  await bed.build(hello, bed.path("hello.eif"));
}, FIRST_BUILD_MS);
afterAll(async () => await bed[Symbol.asyncDispose]());

describe("a kernel of others", () => {
  test("comes from a nitro-cli installation's folder, with its command line and driver", async () => {
    const folder = bed.path("blobs");
    await mkdir(folder);
    const { image, config } = await ownKernel();
    await copyFile(image, join(folder, "bzImage"));
    await copyFile(config, join(folder, "bzImage.config"));
    await writeFile(join(folder, "cmdline"), "reboot=k panic=30 nomodules console=ttyS0\n");
    await writeFile(join(folder, "nsm.ko"), "a driver");
    const yaml = await withKernel("given", `{ blobs: ${folder} }`);
    const built = await bed.build(yaml, bed.path("given.eif"));
    const read = await readIndependently(built.eif);
    expect(read.commandLine).toBe("reboot=k panic=30 nomodules console=ttyS0");
    const [boot] = read.ramdisks;
    const files = await listRamdisk(built.eif, boot?.offset ?? 0, boot?.sizeBytes ?? 0);
    expect(files.map(({ path }) => path)).toEqual([
      "dev",
      "dev/console",
      "init",
      "modules",
      "modules/00-nsm.ko",
    ]);
    await writeFile(join(folder, "cmdline"), "console=ttyS0\n");
    const { stderr } = await bed.pipeline(["build", yaml, "-o", bed.path("given.eif")]);
    expect(stderr).toContain("E_LOCK_STALE");
    expect(stderr).toContain("kernel: cmdline");
  });

  test("that cannot decompress zstd gets plain ramdisks", async () => {
    const folder = bed.path("old");
    await mkdir(folder);
    const { image, config } = await ownKernel();
    await copyFile(image, join(folder, "bzImage"));
    const text = await readFile(config, "utf8");
    await writeFile(join(folder, "bzImage.config"), text.replace("CONFIG_RD_ZSTD=y", ""));
    await writeFile(join(folder, "cmdline"), "console=ttyS0");
    const built = await bed.build(await withKernel("plain", `{ blobs: ${folder} }`), bed.path("plain.eif"));
    const { ramdisks } = await readIndependently(built.eif);
    const bytes = await readFile(built.eif);
    for (const { offset } of ramdisks) expect(bytes.toString("latin1", offset, offset + 6)).toBe("070701");
    expect(
      (await bed.pipeline(["verify-image", built.eif, "--from", bed.path("plain", "enclave.yaml")])).status,
    ).toBe(0);
  });

  test("of Debian's cloud images is refused by the options that it lacks", async () => {
    const folder = await debianKernel();
    const [image = ""] = (await readdir(folder)).filter((name) => name.startsWith("vmlinuz-"));
    const yaml = await withKernel("cloud", `{ file: ${join(folder, image)} }`);
    const { status, stderr } = await bed.pipeline(["build", yaml, "-o", bed.path("cloud.eif")]);
    expect(stderr).toContain("E_KERNEL_FEATURE");
    expect(stderr).toContain("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES (devices that the hypervisor names)");
    expect(stderr).not.toContain("CONFIG_SECCOMP_FILTER");
    expect(status).toBe(2);
  });

  test("that is not there is refused with the place in the YAML", async () => {
    const yaml = await withKernel("missing", "{ blobs: ./nowhere }");
    const { stderr } = await bed.pipeline(["build", yaml, "-o", bed.path("missing.eif")]);
    expect(stderr).toContain("E_CONFIG_FILE_MISSING");
    expect(stderr).toMatch(/enclave\.yaml:\d+:\d+: image\.kernel\.blobs/);
  });
});

describe("a base that is not Debian's", () => {
  test("is locked by the digests of its layers where it is an OCI image", async () => {
    const folder = bed.path("oci");
    await mkdir(join(folder, "rootfs"), { recursive: true });
    await writeFile(join(folder, "rootfs", "data"), "one");
    const archive = await packImage(folder, "1000:50");
    const yaml = await project("fromoci", `{ oci: ${archive} }`);
    const first = await bed.build(yaml, bed.path("fromoci.eif"));
    expect(await readFile(first.lock, "utf8")).toMatch(/"kind":"oci","config":"sha256:[0-9a-f]{64}"/);
    await writeFile(join(folder, "rootfs", "data"), "two");
    await packImage(folder, "1000:50");
    const { stderr } = await bed.pipeline(["build", yaml, "-o", bed.path("fromoci.eif")]);
    expect(stderr).toContain("E_LOCK_STALE");
    expect(stderr).toContain("base: layer 0 sha256:");
  });

  test("can be a folder, and cannot be the host", async () => {
    const folder = bed.path("rootfs");
    await mkdir(join(folder, "srv"), { recursive: true });
    await writeFile(join(folder, "srv", "data"), "mine", { mode: 0o640 });
    const built = await bed.build(
      await project("folder", `{ directory: ${folder} }`),
      bed.path("folder.eif"),
    );
    const application = (await readIndependently(built.eif)).ramdisks[1];
    const files = await listRamdisk(built.eif, application?.offset ?? 0, application?.sizeBytes ?? 0);
    const data = files.find(({ path }) => path === "rootfs/srv/data");
    expect(data).toMatchObject({ uid: 0, gid: 0, mode: 0o100640, sizeBytes: 4 });
    const host = await bed.pipeline(["build", await project("onhost", "host"), "-o", bed.path("onhost.eif")]);
    expect(host.stderr).toContain("E_EIF_BASE");
    expect(host.status).toBe(2);
  });
});

/** The kernel that the toolkit compiled for hello, as files. */
async function ownKernel(): Promise<{ readonly image: string; readonly config: string }> {
  const blobs = await openBlobStore(join(DEFAULT_CACHE, "blobs"));
  const { ramdisks: _, ...image } = await readIndependently(bed.path("hello.eif"));
  const kernel = image.sections[0];
  for (const name of await readdir(join(DEFAULT_CACHE, "compiled"))) {
    const text = name.endsWith(".json") ? await readFile(join(DEFAULT_CACHE, "compiled", name), "utf8") : "";
    const [, digest, size] = /"bzImage":\{"digest":"([0-9a-f]{64})","size":(\d+)\}/.exec(text) ?? [];
    const [, config] = /"config":\{"digest":"([0-9a-f]{64})"/.exec(text) ?? [];
    if (digest === undefined || config === undefined || Number(size) !== kernel?.sizeBytes) continue;
    return { image: blobs.path(digest), config: blobs.path(config) };
  }
  throw new Error("no compiled kernel in the cache");
}

/** Kernel and configuration of Debian's image for clouds, from its package. */
async function debianKernel(): Promise<string> {
  const cacheDir = sharedCache();
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  const options = { architecture: ARCHITECTURE, cacheDir, blobs, withBase: false };
  const closure = await resolvePackages([`linux-image-cloud-${ARCHITECTURE}`], options);
  const packages = await openPackages(
    closure.filter(({ name }) => /^linux-image-\d.*-cloud-/.test(name)),
    options,
  );
  const folder = bed.path("boot");
  await mkdir(folder);
  for (const entry of packages.flatMap(({ entries }) => entries)) {
    if (entry.type !== "file" || dirname(entry.path) !== "/boot") continue;
    await copyFile(blobs.path(entry.digest), join(folder, entry.path.slice("/boot/".length)));
  }
  return folder;
}

async function withKernel(name: string, kernel: string): Promise<string> {
  const yaml = await bed.project("hello", name);
  const text = await readFile(yaml, "utf8");
  await writeFile(yaml, text.replace("image:\n", `image:\n  kernel: ${kernel}\n`));
  return yaml;
}

async function project(name: string, base: string): Promise<string> {
  await mkdir(bed.path(name));
  const yaml = bed.path(name, "enclave.yaml");
  await writeFile(
    yaml,
    `name: ${name}\nmode: development\nimage: { base: ${base} }\nservices: { main: { command: [/main] } }\n`,
  );
  return yaml;
}
