/** One file per program, the same bytes on every machine: no paths, no times, no environment in the output. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { rolldown } from "rolldown";

/** Output name to entry, relative to the repository. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  "pipeline.js": "host/main.ts",
  "pipeline-program.js": "host/pipeline-main.ts",
  "initctl.js": "host/main.ts",
  "initctl-program.js": "host/initctl-main.ts",
  "runner.js": "host/runner-main.ts",
  "tree.js": "rbuilds/tree-main.ts",
  "supervisor.mjs": "enclave/supervisor-main.ts",
  "gateway.mjs": "enclave/gateway-main.ts",
  "archive.mjs": "archive/archive-main.ts",
  "initctl.mjs": "control/initctl-main.ts",
};

/** Bundles every program of PROGRAMS into `directory`, which holds nothing else afterwards. */
export async function bundlePrograms(root: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(directory)) {
    if (!Object.hasOwn(PROGRAMS, name)) await rm(join(directory, name), { recursive: true });
  }
  await Promise.all(
    Object.entries(PROGRAMS).map(([name, entry]) => bundleProgram(root, entry, join(directory, name))),
  );
}

async function bundleProgram(root: string, entry: string, file: string): Promise<void> {
  await using bundle = await rolldown({
    input: join(root, entry),
    cwd: root,
    platform: "node",
    logLevel: "warn",
    treeshake: true,
  });
  await bundle.write({ file, format: "esm", minify: true, sourcemap: false, codeSplitting: false });
}
