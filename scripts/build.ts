/** Builds what runs: the native programs and the bundles. `npm ci` and `npm run build` call it. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { KitError } from "../core/errors.ts";
import { buildNative } from "../native/build.ts";
import { bundlePrograms } from "./bundle.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
try {
  await Promise.all([buildNative(join(root, "native", "build")), bundlePrograms(root, join(root, "dist"))]);
} catch (error) {
  if (!(error instanceof KitError)) throw error;
  process.stderr.write(`error[${error.code}]: ${error.message}\nhint: ${error.hint}\n`);
  process.exitCode = error.exitStatus;
}
