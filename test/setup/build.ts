import { join } from "node:path";

import { buildNative } from "../../native/build.ts";
import { bundlePrograms } from "../../scripts/bundle.ts";

/** Tests run the bundles and native programs of the sources as they are now. */
export async function setup(): Promise<void> {
  const root = join(import.meta.dirname, "..", "..");
  await Promise.all([buildNative(join(root, "native", "build")), bundlePrograms(root, join(root, "dist"))]);
}
