import { join } from "node:path";

import { planLocal } from "../../backends/local/local-plan.ts";
import { buildImage } from "../image-build.ts";
import type { Toolkit } from "../toolkit.ts";
import type { PreparedMachine, PrepareOptions } from "./prepared-machine.ts";

/** A tree of files that the host's kernel runs. @throws what building the root file system throws */
export async function prepareLocal(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { memoryBytes, cpus } = options.spec.resources;
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
    accelerator: null,
    place: async () => await Promise.resolve({ backend: "local", plan, launcher }),
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  };
}
