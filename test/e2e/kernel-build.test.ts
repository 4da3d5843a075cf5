import { join } from "node:path";

import { expect, test } from "vitest";

import { resolvePackages } from "../../rbuilds/apt.ts";
import { openBlobStore } from "../../rbuilds/blob-store.ts";
import { KERNEL_SOURCE_PACKAGE } from "../../rbuilds/kernel/default-kernel.ts";
import { type EnclaveKernel, openEnclaveKernel } from "../../rbuilds/kernel/enclave-kernel.ts";
import { ARCHITECTURE, sharedCache } from "../fixtures/rbuilds/debian-testbed.ts";
import { openTestToolchain } from "../fixtures/rbuilds/toolchain-testbed.ts";
import { DEFAULT_CACHE } from "./image-testbed.ts";
import { ROOT } from "./testbed.ts";

/** Two kernels are compiled on a machine that never ran this, both at once; they are kept by content. */
const TIMEOUT_MS = 3_600_000;

test(
  "the kernel is the same with one compiler at a time as with two, in another cache",
  async () => {
    const [one, two] = await Promise.all([
      kernel(join(sharedCache(), "one-job"), 1),
      kernel(DEFAULT_CACHE, 2),
    ]);
    expect(one.image).toEqual(two.image);
    expect(one).toMatchObject({
      compression: "zstd",
      modules: [],
      version: expect.stringMatching(/^6\.12\./),
    });
  },
  TIMEOUT_MS,
);

async function kernel(cacheDir: string, jobs: number): Promise<EnclaveKernel> {
  const blobs = await openBlobStore(join(cacheDir, "blobs"));
  const options = { ...(await openTestToolchain(cacheDir)), architecture: ARCHITECTURE, cacheDir, blobs };
  const closure = await resolvePackages([KERNEL_SOURCE_PACKAGE], { ...options, withBase: false });
  return await openEnclaveKernel(
    {
      spec: { kind: "default" },
      source: closure.find(({ name }) => name === KERNEL_SOURCE_PACKAGE),
      fragmentPath: join(ROOT, "native", "kernel", "x86_64.config"),
      jobs,
    },
    options,
  );
}
