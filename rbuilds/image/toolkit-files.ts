/** What the toolkit brings into an image, as the lock names it. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";

import type { BlobStore } from "../blob-store.ts";
import { importFile } from "../file-import.ts";
import type { BundledFiles } from "../runtime.ts";
import { digestSources, type ProgramSources } from "../toolchain/programs.ts";

/** The toolkit's files on this machine; its C programs are compiled from their sources. */
export interface ToolkitFiles extends ProgramSources {
  /** Version of the package. */
  readonly version: string;
  /** Node and our bundles. */
  readonly runtime: BundledFiles;
  /** The kernel's configuration, a fragment. */
  readonly kernelConfig: string;
}

/** SHA-256 by name. */
export async function digestToolkit(
  files: ToolkitFiles,
  options: {
    readonly blobs: BlobStore;
    readonly cacheDir: string;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const [name, path] of Object.entries(files.runtime))
    digests[name] = (await importFile(path, options)).digest;
  const config = await readFile(files.kernelConfig);
  return {
    ...digests,
    programs: createHash("sha256")
      .update(JSON.stringify([await digestSources(files), files.flags, files.addonFlags]))
      .digest("hex"),
    kernelConfig: createHash("sha256").update(config).digest("hex"),
  };
}
