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
  "eif-hasher.js": "rbuilds/eif/hasher-main.ts",
  "supervisor.mjs": "enclave/supervisor-main.ts",
  "archive.mjs": "archive/archive-main.ts",
  "initctl.mjs": "control/initctl-main.ts",
};

/**
 * The gateway comes in parts: forwarding must not wait until the control API, twenty times its size, was compiled.
 * Part to its name in the bundler.
 */
const GATEWAY_PARTS: Readonly<Record<string, string>> = {
  "gateway.mjs": "gateway",
  "gateway-api.mjs": "control-api",
  "gateway-shared.mjs": "supervisor-frames",
};

/** Bundles every program of PROGRAMS into `directory`, which holds nothing else afterwards. */
export async function bundlePrograms(root: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(directory)) {
    if (!Object.hasOwn(PROGRAMS, name) && !Object.hasOwn(GATEWAY_PARTS, name))
      await rm(join(directory, name), { recursive: true });
  }
  await Promise.all([
    bundleGateway(root, directory),
    ...Object.entries(PROGRAMS).map(([name, entry]) => bundleProgram(root, entry, join(directory, name))),
  ]);
}

async function bundleGateway(root: string, directory: string): Promise<void> {
  await using bundle = await rolldown({
    input: { gateway: join(root, "enclave/gateway-main.ts") },
    cwd: root,
    platform: "node",
    logLevel: "warn",
  });
  const nameOf = (chunk: { readonly name: string }): string =>
    Object.entries(GATEWAY_PARTS).find(([, name]) => name === chunk.name)?.[0] ?? `gateway-${chunk.name}.mjs`;
  const names = { entryFileNames: nameOf, chunkFileNames: nameOf };
  const { output } = await bundle.write({ dir: directory, ...names, format: "esm", minify: true });
  const unknown = output.find(({ fileName }) => !Object.hasOwn(GATEWAY_PARTS, fileName));
  if (unknown !== undefined) throw new Error(`no image gets the gateway's part ${unknown.fileName}`);
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
