import type { EnclaveRecord } from "../../host/state/enclave-record.ts";

/** A good record of an enclave that runs. */
export function recordOf(name: string, change: Partial<EnclaveRecord> = {}): EnclaveRecord {
  return {
    version: 1,
    name,
    state: "running",
    reason: null,
    backend: "local",
    accelerator: null,
    debug: false,
    mode: "development",
    attestation: "development",
    isolated: true,
    runner: { pid: null, startTicks: null },
    ports: [],
    attestationPort: null,
    services: [
      {
        name: "a",
        state: "running",
        pid: 7,
        restarts: 0,
        health: "none",
        reason: null,
        notIsolated: null,
        limits: [],
      },
    ],
    supervisor: { restarts: 0 },
    attestationServer: null,
    gateway: { restarts: 0 },
    limits: [],
    image: "ab",
    imageFiles: "cd",
    overridden: false,
    file: "/enclave.yaml",
    createdAt: 1,
    error: null,
    ...change,
  };
}
