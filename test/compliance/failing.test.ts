/** An enclave that does not come up says why, and leaves nothing running. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { CommandResult } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import {
  type ComplianceEnclave,
  OPEN_TIMEOUT_MS,
  prepareEnclave,
  TEST_TIMEOUT_MS,
} from "./compliance-bed.ts";

describe.each(BACKENDS)("an enclave that fails on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;
  let up: CommandResult;

  beforeAll(async () => {
    enclave = await prepareEnclave(backend, "failing");
    up = await enclave.tryUp();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  test("up names the service, its reason and its last lines", () => {
    expect(up.status).toBe(9);
    expect(up.stderr + up.stdout).toMatch(/E_HOST_SERVICE_FAILED/);
    expect(up.stderr + up.stdout).toMatch(/hopeless[^]*exited\(3\)/);
    expect(up.stderr + up.stdout).toContain("cannot go on");
  });

  test("the record stays with the reason, and nothing runs", async () => {
    const [record] = await enclave.bed.ps();
    expect(record).toMatchObject({ name: "failing", runner: { pid: null } });
    expect(record?.reason).toMatch(/hopeless/);
    expect(await enclave.remains()).toEqual([]);
  });

  test("down removes the record", async () => {
    await enclave.bed.succeed("down", "failing");
    expect(await enclave.remains()).toEqual([]);
    expect(await enclave.records()).toEqual([]);
  });
});
