/** The registers of an image as a machine of it should have them: what the development NSM says, and what is compared with. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { promisify } from "node:util";

import { KitError } from "../../core/errors.ts";
import { measure, type Pcrs } from "../../rbuilds/eif/measurements.ts";
import type { MeasuredFiles } from "../../rbuilds/image/measure-application.ts";

/** Where registers come from. */
export type RegisterSource =
  /** An image file was measured. */
  | { readonly kind: "image"; readonly pcrs: Pcrs }
  /** Files that a machine without a kernel of its own runs; they are measured when somebody asks. */
  | {
      readonly kind: "files";
      readonly files: MeasuredFiles;
      readonly cacheDir: string;
      /** Node and the program that measures. */
      readonly node: string;
      readonly program: string;
    };

/** In the place of kernel and boot ramdisk: nothing of them can be said. */
export const NO_KERNEL = "local, no kernel";

const MEASURE_TIMEOUT_MS = 300_000;
const MAX_OUTPUT_BYTES = 64 * 1024;
const execute = promisify(execFile);

/**
 * Registers by number, lower-case hex of 48 bytes: 0, 1 and 2, and 8 of a signed image.
 * @throws E_NSM_MEASUREMENT
 */
export async function readRegisters(
  source: RegisterSource,
  signal: AbortSignal,
): Promise<ReadonlyMap<number, string>> {
  if (source.kind === "image") {
    const { PCR0, PCR1, PCR2, PCR8 } = source.pcrs;
    return new Map([[0, PCR0], [1, PCR1], [2, PCR2], ...(PCR8 === undefined ? [] : [[8, PCR8] as const])]); // prettier-ignore
  }
  const marker = measure(Buffer.from(NO_KERNEL));
  return new Map([[0, marker], [1, marker], [2, await measureFiles(source, signal)]]); // prettier-ignore
}

async function measureFiles(
  { node, program, cacheDir, files }: Extract<RegisterSource, { kind: "files" }>,
  signal: AbortSignal,
): Promise<string> {
  const words = [program, cacheDir, files.manifestPath, files.baseManifestPath, files.blobsDirectory];
  const limits = { timeout: MEASURE_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES };
  try {
    const { stdout } = await execute(node, words, { ...limits, signal, env: {} });
    return stdout;
  } catch (error) {
    signal.throwIfAborted();
    throw new KitError("E_NSM_MEASUREMENT", `the application cannot be measured: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function reasonOf(error: unknown): string {
  const output: unknown = error instanceof Error && "stderr" in error ? error.stderr : undefined;
  const said = typeof output === "string" ? output.trim().slice(0, 500) : "";
  if (said !== "") return said;
  return error instanceof Error ? error.message : String(error);
}

/** Of an instance in AWS's place; it says what it is. */
export function developmentModuleId(name: string, startedMs: number): string {
  const digest = createHash("sha256").update(`${name} ${startedMs}`).digest("hex");
  return `i-development-enc${digest.slice(0, 16)}`;
}
