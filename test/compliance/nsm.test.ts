/** /dev/nsm for services: where a backend has a kernel to make it, for those that may have it; refused elsewhere. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import {
  type ComplianceEnclave,
  OPEN_TIMEOUT_MS,
  prepareEnclave,
  TEST_TIMEOUT_MS,
} from "./compliance-bed.ts";

/** A program of somebody else, on the raw ioctl. */
const PROGRAMS = { caller: "guest/nsm-caller.c" };
const HOLDER = 8080;
const STRANGER = 8081;

describe("services with nsm: true on qemu", { timeout: TEST_TIMEOUT_MS }, () => {
  let enclave: ComplianceEnclave;

  beforeAll(async () => {
    enclave = await prepareEnclave("qemu", "nsm", PROGRAMS);
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  test("a program in any language has its requests answered", async () => {
    const { status, output } = await enclave.runProbe(HOLDER, "/app/caller", "everything");
    expect(status).toBe(0);
    for (const request of ["DescribeNSM", "GetRandom", "Attestation"])
      expect(output).toMatch(new RegExp(`^${request}\\S* ok [0-9]+ a1`, "m"));
  });

  test("a service without it finds no device, whatever it tries", async () => {
    const { output } = await enclave.runProbe(STRANGER, "/app/caller", "everything");
    expect(output).toBe("open errno 2\n");
    expect((await enclave.runProbe(STRANGER, "sh", "-c", "ls /dev")).output).not.toContain("nsm");
  });

  test("the attestation server is asked beside it, and proves the same image", async () => {
    const proof = await enclave.bed.succeed("attest", "nsm", "--json");
    expect(JSON.parse(proof)).toMatchObject({ verdict: "attested" });
  });
});

describe("services with nsm: true on local", () => {
  test("are refused with the reason, and nothing is left", async () => {
    await using enclave = await prepareEnclave("local", "nsm");
    const { status, stdout } = await enclave.tryUp();
    expect(stdout).toContain("E_BACKEND_NSM");
    expect(stdout).toContain("service holder has nsm: true");
    expect(status).toBe(7);
    expect(await enclave.records()).toEqual([]);
  });
});
