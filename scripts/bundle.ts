/** One file per program, or several where parts of it are loaded late; the same bytes on every machine: no paths, no times, no environment in the output. */
import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { rolldown } from "rolldown";

/** Output name to entry, relative to the repository. Each is a file that needs no other. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  "pipeline.js": "host/main.ts",
  "initctl.js": "host/main.ts",
  "tree.js": "rbuilds/tree-main.ts",
  "verify.js": "attest/verify-entry.ts",
  "client.js": "attest/client-entry.ts",
  "measure.js": "rbuilds/measure-main.ts",
  "eif-hasher.js": "rbuilds/eif/hasher-main.ts",
  "supervisor.mjs": "enclave/supervisor-main.ts",
  "ra-server.mjs": "ra-server/main.ts",
  "archive.mjs": "archive/archive-main.ts",
  "initctl.mjs": "control/initctl-main.ts",
};

/** The same for those that stay beside their parts: what they import late is a file that most runs never read. */
const PROGRAMS_IN_PARTS: Readonly<Record<string, string>> = {
  "pipeline-program.js": "host/pipeline-main.ts",
  "initctl-program.js": "host/initctl-main.ts",
  "runner.js": "host/runner-main.ts",
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

/** The verifier for pages, as a module. */
const BROWSER_VERIFIER = "verify-browser.js";
/** examples/verify-page, with the verifier in it: one classic script, which browsers load from files too. */
const VERIFY_PAGE = "verify-page";

/** Bundles every program into `directory`, which holds nothing else afterwards. */
export async function bundlePrograms(root: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const parts = await Promise.all([
    bundleGateway(root, directory),
    ...Object.entries(PROGRAMS_IN_PARTS).map(
      async ([name, entry]) => await bundleInParts(root, entry, { directory, name }),
    ),
    bundleForBrowsers(root, "attest/browser-entry.ts", {
      file: join(directory, BROWSER_VERIFIER),
      format: "esm",
    }),
    bundlePage(root, join(directory, VERIFY_PAGE)),
    ...Object.entries(PROGRAMS).map(([name, entry]) => bundleProgram(root, entry, join(directory, name))),
  ]);
  const known = new Set([...Object.keys(PROGRAMS), BROWSER_VERIFIER, VERIFY_PAGE, ...parts.flat()]);
  for (const name of await readdir(directory))
    if (!known.has(name)) await rm(join(directory, name), { recursive: true });
}

/** @returns the files */
async function bundleGateway(root: string, directory: string): Promise<readonly string[]> {
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
  return output.map(({ fileName }) => fileName);
}

/** @returns the files; parts are named after the program, so that two programs never share one */
async function bundleInParts(
  root: string,
  entry: string,
  { directory, name }: { readonly directory: string; readonly name: string },
): Promise<readonly string[]> {
  await using bundle = await rolldown({
    input: join(root, entry),
    cwd: root,
    platform: "node",
    logLevel: "warn",
  });
  const { output } = await bundle.write({
    dir: directory,
    entryFileNames: name,
    chunkFileNames: name.replace(/\.js$/, "-[name].js"),
    format: "esm",
    minify: true,
  });
  return output.map(({ fileName }) => fileName);
}

async function bundlePage(root: string, directory: string): Promise<void> {
  const source = join(root, "examples", VERIFY_PAGE);
  await mkdir(directory, { recursive: true });
  for (const name of ["index.html", "page.css"]) await copyFile(join(source, name), join(directory, name));
  const entry = join("examples", VERIFY_PAGE, "page.mjs");
  await bundleForBrowsers(root, entry, { file: join(directory, "page.js"), format: "iife" });
}

async function bundleForBrowsers(
  root: string,
  entry: string,
  output: { readonly file: string; readonly format: "esm" | "iife" },
): Promise<void> {
  await using bundle = await rolldown({
    input: join(root, entry),
    cwd: root,
    platform: "browser",
    logLevel: "warn",
  });
  await bundle.write({ ...output, minify: true, codeSplitting: false });
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
