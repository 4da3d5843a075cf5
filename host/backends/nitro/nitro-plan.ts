/** What a runner needs to start an enclave on the hardware; plain data, written by `up`. */
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";

import { KitError, toKitError } from "../../../core/errors.ts";
import type { EnclaveSpec } from "../../config/enclave-spec.ts";
import { refuseDebugOfProduction } from "./confidentiality.ts";
import { findNitroCli } from "./find-nitro-cli.ts";
import { checkMemory } from "./launch-limits.ts";

export interface NitroPlan {
  /** Absolute path of nitro-cli. */
  readonly program: string;
  /** For nitro-cli; no other enclave of this machine has it, because it is ended by its name. */
  readonly launchName: string;
  /** Measured, in the image. */
  readonly mode: "development" | "production";
  /** Absolute path of the image. */
  readonly eifPath: string;
  readonly memoryBytes: number;
  /** How many, where cpuIds does not say which. */
  readonly cpus: number;
  readonly cpuIds?: readonly number[];
  readonly numaNode?: number;
  /** The hypervisor chooses one if there is none. */
  readonly cid?: number;
  readonly debug: boolean;
}

export interface PlanNitroOptions {
  readonly spec: Pick<EnclaveSpec, "mode" | "resources">;
  /** Of the enclave. */
  readonly name: string;
  readonly eifPath: string;
  /** PATH, where nitro-cli is looked for. */
  readonly searchPath: string;
  readonly debug: boolean;
}

/** Refuses what would fail later. @throws E_NITRO_DEBUG, E_NITRO_MISSING, E_NITRO_MEMORY, E_EIF_FILE */
export async function planNitro(options: PlanNitroOptions): Promise<NitroPlan> {
  const { spec, name, eifPath, searchPath, debug } = options;
  const { mode, resources } = spec;
  refuseDebugOfProduction(mode, debug);
  const program = await findNitroCli(searchPath);
  checkMemory(resources.memoryBytes, await sizeOfImage(eifPath));
  return { program, launchName: newLaunchName(name), mode, eifPath, debug, ...resources };
}

/** A name for nitro-cli that no other launch has. Whoever keeps it can end the enclave without the machine. */
export function newLaunchName(enclaveName: string): string {
  return `${enclaveName}-${randomBytes(4).toString("hex")}`;
}

/** @returns bytes. @throws E_EIF_FILE */
export async function sizeOfImage(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    throw new KitError("E_EIF_FILE", `cannot read ${path}: ${toKitError(error).message}`, { cause: error });
  }
}
