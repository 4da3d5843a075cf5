import { FIRST_REPORT } from "../../wire/attestation-server.ts";

/** What an enclave with one service answers to GET /v1/status, with any field of the service replaced. */
export function statusOf(change: Readonly<Record<string, unknown>> = {}) {
  const service: Record<string, unknown> = {
    name: "web",
    state: "running",
    pid: 9,
    restarts: 0,
    health: "healthy",
    healthDetail: null,
    startedAt: 1,
    reason: null,
    user: { name: "web", uid: 61184 },
    notIsolated: null,
    limits: [],
    ...change,
  };
  return {
    name: "x",
    mode: "development",
    attestation: "development",
    supervisor: { pid: 2, restarts: 0, previousExit: null },
    gateway: { pid: 3, restarts: 0 },
    attestationServer: { pid: 4, restarts: 0, ...FIRST_REPORT },
    isolated: true,
    stopping: false,
    overridden: false,
    services: [service],
  };
}
