/** An enclave proves what it runs, to an operator with the command line and to a stranger with a document. */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { NO_KERNEL } from "../../host/attestation/image-registers.ts";
import { measure } from "../../rbuilds/eif/measurements.ts";
import { waitFor } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import { type ComplianceEnclave, OPEN_TIMEOUT_MS, prepareEnclave, TEST_TIMEOUT_MS, WAIT_MS } from "./compliance-bed.ts"; // prettier-ignore

const AttestJson = z.object({
  verdict: z.literal("attested"),
  attestation: z.string(),
  root: z.string(),
  compared: z.record(z.string(), z.string()),
  registers: z.record(z.string(), z.string()),
  nonce: z.string(),
  statement: z.string(),
});
const NONCE = "00112233445566778899aabbccddeeff";

describe.each(BACKENDS)("attestation on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;
  let document: string;

  beforeAll(async () => {
    enclave = await prepareEnclave(backend, "attested");
    document = join(enclave.directory, "proof.cbor");
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(() => enclave[Symbol.asyncDispose]());

  async function attest(...words: string[]) {
    return AttestJson.parse(
      JSON.parse(await enclave.bed.succeed("attest", "attested", "--json", "--nonce", NONCE, ...words)),
    );
  }

  async function verify(...words: string[]) {
    return await enclave.run("verify", "--document", document, "--at", "now", ...words);
  }

  test("attest verifies the registers of the image, the nonce and the statement", async () => {
    const said = await attest("--statement", "order 17", "--out", document);
    expect(said).toMatchObject({
      attestation: "development",
      nonce: NONCE,
      statement: "order 17",
    });
    expect(Object.keys(said.compared)).toEqual(["0", "1", "2"]);
    expect(said.registers).toMatchObject(said.compared);
    const marker = measure(Buffer.from(NO_KERNEL));
    if (backend === "local") expect(said.compared).toMatchObject({ 0: marker, 1: marker });
    else expect(new Set(Object.values(said.compared)).size).toBe(3);
  });

  test("a stranger verifies the document; the AWS root, another nonce and another register refuse it", async () => {
    const { root, compared } = await attest("--out", document);
    const own = ["--root", `sha256:${root}`];
    const registers = Object.entries(compared).flatMap(([index, value]) => ["--pcr", `${index}=${value}`]);
    expect((await verify(...own, "--nonce", NONCE, ...registers)).status).toBe(0);
    expect((await verify("--root", "aws")).status).toBe(3);
    const replayed = await verify(...own, "--nonce", "ff".repeat(16));
    expect(replayed.status).toBe(4);
    expect(replayed.stderr).toContain("E_UNMET_NONCE");
    expect((await verify(...own, "--pcr", `2=${"ab".repeat(48)}`)).status).toBe(4);
  });

  test("one changed byte of the application is another image", async () => {
    const changed = await mkdtemp(join(tmpdir(), "changed-"));
    try {
      await cp(enclave.directory, changed, { recursive: true });
      const program = join(changed, "app", "server.js");
      await writeFile(program, (await readFile(program, "utf8")).replace("attested", "Attested"));
      const same = await enclave.run("attest", "attested", "--file", enclave.file);
      expect(same).toMatchObject({ status: 0 });
      const other = await enclave.run("attest", "attested", "--file", join(changed, "enclave.yaml"));
      expect(other.stderr).toContain("E_UNMET_MEASUREMENTS");
      expect(other.status).toBe(4);
    } finally {
      await rm(changed, { recursive: true, force: true });
    }
  });

  test("status tells of the attestation server, and where it is published", async () => {
    const text = await enclave.bed.succeed("status", "attested", "--json");
    const { attestationServer, attestationPort } = z
      .object({
        attestationServer: z.object({ state: z.string(), pid: z.number(), clockOffsetMs: z.number() }),
        attestationPort: z.object({ hostAddress: z.string(), hostPort: z.number().positive() }),
      })
      .parse(JSON.parse(text));
    expect(attestationServer.state).toBe("ready");
    expect(attestationPort.hostAddress).toBe("127.0.0.1");
  });

  test("an attestation server that dies is started again, and proves with a new key", async () => {
    const { attestationServer: before } = await enclave.inside();
    await enclave.sh(`kill -9 ${before.pid ?? 0}`);
    await waitFor("the next server", async () => {
        const { attestationServer: now } = await enclave.inside();
        return (now.restarts === 1 && now.state === "ready") || undefined;
      }, WAIT_MS); // prettier-ignore
    expect(await attest()).toMatchObject({ verdict: "attested" });
  });
});
