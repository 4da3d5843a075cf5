import { open } from "node:fs/promises";

import { KitError, toKitError } from "../../../core/errors.ts";
import { EIF_MAGIC } from "../../../wire/eif/eif-layout.ts";
import { loadEnclaveSpec } from "../../config/load-spec.ts";

/** What is to run, as far as it is known. */
export interface WantedEnclave {
  readonly imageBytes?: number | undefined;
  readonly memoryBytes?: number | undefined;
  readonly cpus?: number | undefined;
  readonly cpuIds?: readonly number[] | undefined;
  readonly numaNode?: number | undefined;
}

/** @param paths of enclave.yaml and image, either or both, in any order. @throws E_EIF_FILE, E_CONFIG_*, E_USAGE */
export async function readWanted(paths: readonly string[]): Promise<WantedEnclave> {
  if (paths.length > 2) throw new KitError("E_USAGE", "doctor takes one enclave.yaml and one image file");
  let wanted: WantedEnclave = {};
  for (const path of paths) {
    const imageBytes = await sizeOfImage(path);
    wanted = {
      ...wanted,
      ...(imageBytes === undefined ? (await loadEnclaveSpec(path)).resources : { imageBytes }),
    };
  }
  return wanted;
}

/** @returns undefined if the file is no enclave image */
async function sizeOfImage(path: string): Promise<number | undefined> {
  try {
    await using file = await open(path);
    const { buffer } = await file.read(Buffer.alloc(EIF_MAGIC.length), 0, EIF_MAGIC.length, 0);
    return buffer.toString("latin1") === EIF_MAGIC ? (await file.stat()).size : undefined;
  } catch (error) {
    throw new KitError("E_EIF_FILE", `cannot read ${path}: ${toKitError(error).message}`, { cause: error });
  }
}
