import { join } from "node:path";

import { KitError } from "../../../core/errors.ts";
import { planLocal } from "../../backends/local/local-plan.ts";
import type { EnclaveSpec } from "../../config/enclave-spec.ts";
import { buildImage } from "../image-build.ts";
import type { Toolkit } from "../toolkit.ts";
import type { PreparedMachine, PrepareOptions } from "./prepared-machine.ts";

/** A tree of files that the host's kernel runs. @throws what building the root file system throws */
export async function prepareLocal(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { memoryBytes, cpus } = options.spec.resources;
  refuseNsm(options.spec);
  const image = await buildImage(toolkit, options);
  const launcher = join(toolkit.nativeDir, "launcher");
  const plan = await planLocal({
    image,
    memoryBytes,
    cpus,
    cacheDir: toolkit.cacheDir,
    caller: toolkit.caller,
    programs: { node: toolkit.node, launcher, treeProgram: join(toolkit.distDir, "tree.js") },
    signal: options.signal,
    onProgress: options.onProgress,
  });
  return {
    image,
    registers: {
      kind: "files",
      files: image,
      cacheDir: toolkit.cacheDir,
      node: toolkit.node,
      program: join(toolkit.distDir, "measure.js"),
    },
    accelerator: null,
    place: async () => await Promise.resolve({ backend: "local", plan, launcher }),
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
}

/** A device that is not the kernel's own takes CUSE, which no namespace has. @throws E_BACKEND_NSM */
function refuseNsm({ services }: EnclaveSpec): void {
  const service = services.find(({ nsm }) => nsm);
  if (service === undefined) return;
  throw new KitError(
    "E_BACKEND_NSM",
    `service ${service.name} has nsm: true, and the local backend has no /dev/nsm to give`,
  );
}
