import { describeAttestationApi } from "../ra-server/api/openapi.ts";

/** docs/attestation-openapi.json, as the attestation server's route table has it. */
export function renderAttestationOpenapi(): string {
  return `${JSON.stringify(describeAttestationApi(), undefined, 2)}\n`;
}
