/** Records of the state directory. The directory of an enclave is also the lock of its name. */
import { randomBytes } from "node:crypto";
import { link, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { z } from "zod";

import { isErrorCode } from "../../core/error-table.ts";
import { AttestationStatusSchema } from "../../wire/control-schemas.ts";
import { isErrno, KitError } from "../../core/errors.ts";
import { BACKEND_NAMES } from "../backends/machine-plan.ts";
import { enclavePaths, enclavesFolder } from "./enclave-paths.ts";
import { type EnclaveRecord, RECORD_VERSION } from "./enclave-record.ts";
import { writeRecordFile } from "./record-file.ts";

const MAX_RECORD_BYTES = 4 * 1024 * 1024;

const Count = z.number().int().min(0);
const ServiceStates = z.enum(["waiting", "starting", "running", "stopping", "exited", "failed", "backoff", "crash_loop", "stopped", "blocked", "unknown"]); // prettier-ignore

const LimitSchema = z.strictObject({
  name: z.enum(["memory", "pids", "cpus", "cpu_time", "run_time", "output"]),
  value: z.number(),
  enforced: z.boolean(),
  why: z.string().nullable(),
});

const RecordSchema = z.strictObject({
  version: z.literal(RECORD_VERSION),
  name: z.string(),
  state: z.enum(["starting", "running", "unhealthy", "stopping", "stopped", "failed"]),
  reason: z.string().nullable(),
  backend: z.enum(BACKEND_NAMES),
  accelerator: z.enum(["kvm", "tcg"]).nullable(),
  debug: z.boolean(),
  mode: z.enum(["development", "production"]),
  attestation: z.enum(["nitro", "development"]),
  isolated: z.boolean().nullable(),
  runner: z.strictObject({ pid: Count.nullable(), startTicks: Count.nullable() }),
  ports: z.array(z.strictObject({ hostAddress: z.string(), hostPort: Count, servicePort: Count })),
  attestationPort: z.strictObject({ hostAddress: z.string(), hostPort: Count }).nullable(),
  limits: z.array(LimitSchema),
  services: z.array(
    z.strictObject({
      name: z.string(),
      state: ServiceStates,
      pid: Count.nullable(),
      restarts: Count,
      health: z.enum(["none", "starting", "healthy", "unhealthy"]),
      reason: z.string().nullable(),
      notIsolated: z.string().nullable(),
      limits: z.array(LimitSchema),
    }),
  ),
  supervisor: z.strictObject({ restarts: Count }),
  gateway: z.strictObject({ restarts: Count }),
  attestationServer: AttestationStatusSchema.nullable(),
  image: z.string(),
  imageFiles: z.string(),
  overridden: z.boolean(),
  file: z.string(),
  createdAt: z.number(),
  error: z
    .strictObject({
      code: z.string().refine(isErrorCode),
      message: z.string(),
      hint: z.string(),
      details: z.record(z.string(), z.unknown()),
    })
    .nullable(),
});

/** @throws E_HOST_STATE_DAMAGED naming `place`. */
export function decodeRecord(text: string, place: string): EnclaveRecord {
  if (text.length > MAX_RECORD_BYTES) throw damaged(place, "it is too large");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged(place, "it is not JSON", error);
  }
  const parsed = RecordSchema.safeParse(value);
  if (!parsed.success)
    throw damaged(place, z.prettifyError(parsed.error).split("\n", 1)[0] ?? "", parsed.error);
  return parsed.data;
}

function damaged(place: string, why: string, cause?: unknown): KitError {
  return new KitError("E_HOST_STATE_DAMAGED", `${place} is damaged: ${why}`, { cause });
}

/** @returns undefined if there is no enclave of that name, or its runner has written nothing yet. */
export async function readRecord(stateDir: string, name: string): Promise<EnclaveRecord | undefined> {
  const path = enclavePaths(stateDir, name).record;
  try {
    return decodeRecord(await readFile(path, "utf8"), path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    if (isErrno(error)) throw damaged(path, `it cannot be read (${error.code ?? error.message})`, error);
    throw error;
  }
}

/** Writes the record of an enclave that has none; one that its runner wrote meanwhile is newer and stays. */
export async function writeFirstRecord(stateDir: string, record: EnclaveRecord): Promise<void> {
  const { record: path } = enclavePaths(stateDir, record.name);
  const temporary = `${path}.${randomBytes(6).toString("hex")}.first`;
  try {
    await writeRecordFile(temporary, record);
    await link(temporary, path);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

export async function writeRecord(stateDir: string, record: EnclaveRecord): Promise<void> {
  await writeRecordFile(enclavePaths(stateDir, record.name).record, record);
}

/** Names of all enclaves, sorted. */
export async function listNames(stateDir: string): Promise<string[]> {
  try {
    return (await readdir(enclavesFolder(stateDir))).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Takes the name: of two callers exactly one gets true. */
export async function claimName(stateDir: string, name: string): Promise<boolean> {
  await mkdir(enclavesFolder(stateDir), { recursive: true, mode: 0o700 });
  try {
    await mkdir(enclavePaths(stateDir, name).directory, { mode: 0o700 });
    return true;
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    throw error;
  }
}

export async function removeEnclave(stateDir: string, name: string): Promise<void> {
  await rm(enclavePaths(stateDir, name).directory, { recursive: true, force: true });
}
