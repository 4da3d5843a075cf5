/** A program without its symbols: less of the enclave's memory. */
import type { StoredBlob } from "../blob-store.ts";
import { importFile } from "../file-import.ts";
import { compile, type CompileOptions, resultScript } from "./compile.ts";

const TMPFS_BYTES = 1024 ** 3;
const TIMEOUT_MS = 120_000;
const MAX_RESULT_BYTES = 512 * 1024 ** 2;

/** @throws E_TOOLCHAIN_*, E_IMAGE_RUNTIME */
export async function stripProgram(path: string, options: CompileOptions): Promise<StoredBlob> {
  const program = await importFile(path, options);
  const results = await compile(
    {
      title: `${path} without symbols`,
      key: { stripped: program.digest },
      script: resultScript("strip -o result/program /inputs/program"),
      inputs: [{ source: options.blobs.path(program.digest), target: "/inputs/program" }],
      results: ["program"],
      tmpfsBytes: TMPFS_BYTES,
      timeoutMs: TIMEOUT_MS,
      maxResultBytes: MAX_RESULT_BYTES,
    },
    options,
  );
  const stripped = results.get("program");
  if (stripped === undefined) throw new TypeError("the result is missing");
  return stripped;
}
