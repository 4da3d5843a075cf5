import { writeFileAtomic } from "../../core/atomic-file.ts";
import type { EnclaveRecord } from "./enclave-record.ts";

/** Replaces the record of an enclave in one step. Apart from record-store.ts so that the runner loads no schemas. */
export async function writeRecordFile(path: string, record: EnclaveRecord): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(record)}\n`);
}
