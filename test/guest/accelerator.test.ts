import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test } from "vitest";

import { chooseAccelerator } from "../../host/backends/qemu/accelerator-probe.ts";
import { findQemu } from "../../host/backends/qemu/qemu-program.ts";
import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { DEFAULT_CACHE } from "../e2e/image-testbed.ts";
import { ARCHITECTURE } from "../fixtures/rbuilds/debian-testbed.ts";

test("the accelerator is TCG where there is no KVM device, or one that gives no progress", async () => {
  const directory = await mkdtemp(join(tmpdir(), "accelerator-"));
  try {
    const blobs = await openBlobStore(join(DEFAULT_CACHE, "blobs"));
    const options = { architecture: ARCHITECTURE, cacheDir: DEFAULT_CACHE, blobs };
    const qemu = await findQemu({ ...options, searchPath: "" });
    const absent = { qemu, kernel: "", cacheDir: directory, device: join(directory, "kvm") };
    expect(await chooseAccelerator(absent)).toBe("tcg");
    // A file that opens is no KVM: QEMU cannot use the machine's own either with a kernel that is none.
    await writeFile(join(directory, "kvm"), "");
    const garbage = join(directory, "garbage");
    await writeFile(garbage, "no kernel");
    expect(await chooseAccelerator({ ...absent, kernel: garbage })).toBe("tcg");
  } finally {
    await rm(directory, { recursive: true });
  }
}, 120_000);
