/** An enclave in production: what it serves can be reached, and nothing else of it. */
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { waitFor } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import {
  type ComplianceEnclave,
  OPEN_TIMEOUT_MS,
  prepareEnclave,
  TEST_TIMEOUT_MS,
} from "./compliance-bed.ts";
import { whyLacking } from "./differences.ts";

const WAIT_MS = 90_000;

describe.each(BACKENDS.filter((backend) => whyLacking(backend, "users") === undefined))(
  "production on %s",
  { timeout: TEST_TIMEOUT_MS },
  (backend) => {
    let enclave: ComplianceEnclave;

    beforeAll(async () => {
      enclave = await prepareEnclave(backend, "production");
      await enclave.up();
    }, OPEN_TIMEOUT_MS);
    afterAll(() => enclave[Symbol.asyncDispose]());

    test("a published port is served, though nobody outside sees the service's state", async () => {
      const answer = await waitFor("an echo", async () => await echo(enclave), WAIT_MS);
      expect(answer).toBe("hello");
      const status = await enclave.status();
      expect(status).toMatchObject({ state: "running", mode: "production" });
      expect(status.services).toMatchObject([{ name: "echo", state: "unknown", pid: null }]);
    });

    test("the control API is closed", async () => {
      for (const words of [
        ["exec", "production", "--", "true"],
        ["stats", "production"],
      ]) {
        const { status, stderr } = await enclave.run(...words);
        expect(stderr).toContain("E_CONTROL_CLOSED");
        expect(status).not.toBe(0);
      }
    });

    test("attest fails for want of a device, says so, and nothing else vouches for the image", async () => {
      const refused = await waitFor(
        "the reason",
        async () => {
          const result = await enclave.run("attest", "production");
          return result.stderr.includes("E_NSM_NO_DEVICE") ? result : undefined;
        },
        WAIT_MS,
      );
      expect(refused.status).toBe(3);
      expect(refused.stderr).toContain("E_EVIDENCE_MISSING");
      expect(refused.stderr).toContain("/dev/nsm");
    });

    test("stop ends it, and nothing is left", async () => {
      await enclave.bed.succeed("stop", "production");
      expect(await enclave.status()).toMatchObject({ state: "stopped", runner: { pid: null } });
      expect(await enclave.remains()).toEqual([]);
    });
  },
);

describe.each(BACKENDS.filter((backend) => whyLacking(backend, "users") === undefined))(
  "production with development documents on %s",
  { timeout: TEST_TIMEOUT_MS },
  (backend) => {
    let enclave: ComplianceEnclave;

    beforeAll(async () => {
      enclave = await prepareEnclave(backend, "attested-production");
      await enclave.up();
    }, OPEN_TIMEOUT_MS);
    afterAll(() => enclave[Symbol.asyncDispose]());

    test("attest proves the image, and the control API is closed", async () => {
      const proof = await enclave.bed.succeed("attest", "attested-production", "--json");
      expect(JSON.parse(proof)).toMatchObject({ verdict: "attested", attestation: "development" });
      const { status, stderr } = await enclave.run("exec", "attested-production", "--", "true");
      expect(stderr).toContain("E_CONTROL_CLOSED");
      expect(status).not.toBe(0);
    });
  },
);

async function echo(enclave: ComplianceEnclave): Promise<string | undefined> {
  const socket = enclave.dial(8001);
  socket.on("error", () => undefined).write("hello");
  try {
    // Reset as long as nobody listens.
    const [first] = await Promise.race([once(socket, "data"), once(socket, "close")]);
    return Buffer.isBuffer(first) ? first.toString() : undefined;
  } catch {
    return undefined;
  } finally {
    socket.destroy();
  }
}
