import { describeApi } from "../enclave/api/openapi.ts";

/** docs/openapi.json, as the gateway's route table has it. */
export function renderOpenapi(): string {
  return `${JSON.stringify(describeApi(), undefined, 2)}\n`;
}
