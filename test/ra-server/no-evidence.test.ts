/** What the server says when no document can be had, and when there is one again. */
import { afterEach, expect, test } from "vitest";

import { attestedFetch } from "../../attest/client/attested-fetch.ts";
import { KitError } from "../../core/errors.ts";
import { ReadySchema } from "../../wire/attestation-api.ts";
import { eventually } from "../enclave/eventually.ts";
import { isKitError } from "../enclave/kit-error.ts";
import { AttestationBed, QUICK_TIMING } from "./attestation-bed.ts";
import { BlindClient, readAnswer, readProblem } from "./blind-client.ts";
import { FailingProvider } from "./failing-provider.ts";

const NO_DEVICE = { status: 503, code: "E_NSM_NO_DEVICE" };
const DAY_MS = 86_400_000;
const stack: AsyncDisposable[] = [];

afterEach(async () => {
  for (const one of stack.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

async function startFailing(
  isBroken: boolean,
  nowMs: () => number = Date.now,
): Promise<{
  readonly bed: AttestationBed;
  readonly provider: FailingProvider;
  readonly client: BlindClient;
}> {
  const late: { bed?: AttestationBed } = {};
  const provider = new FailingProvider(() => {
    if (late.bed === undefined) throw new Error("no bed yet");
    return late.bed.openProvider();
  }, isBroken);
  const timing = { ...QUICK_TIMING, sampleMs: 50 };
  const bed = await AttestationBed.start({ provider: async () => provider, nowMs, server: { timing } });
  late.bed = bed;
  const client = new BlindClient(bed.url);
  stack.push(bed, client);
  return { bed, provider, client };
}

test("without a device the server says so, and serves everything else", async () => {
  const { bed, client } = await startFailing(true);
  expect(readProblem(await client.get("/v1/ready"))).toEqual(NO_DEVICE);
  expect(readProblem(await client.post("/v1/attestation", { nonce: "AA==" }))).toEqual(NO_DEVICE);
  for (const path of ["/v1/pcrs", "/v1/image"]) {
    expect(readProblem(await client.get(path))).toEqual(NO_DEVICE);
  }
  expect((await client.get("/v1/health")).status).toBe(200);
  expect((await client.get("/v1/metrics")).text).toMatch(/failures_total\{code="E_NSM_NO_DEVICE"\} [1-9]/);
  expect(bed.report).toMatchObject({
    state: "failed",
    reason: { code: "E_NSM_NO_DEVICE" },
    documentTimeMs: null,
    certificateNotAfterMs: null,
  });
});

test("attested clients refuse a server without evidence, with the exit status of bad evidence", async () => {
  const { bed } = await startFailing(true);
  const asked = attestedFetch(`${bed.url}/v1/ready`, bed.policy());
  await expect(asked).rejects.toThrow(isKitError("E_EVIDENCE_MISSING"));
  await expect(asked).rejects.toMatchObject({ exitStatus: 3 });
});

test("it is tried again, and then the server proves itself", async () => {
  const { bed, provider, client } = await startFailing(true);
  await eventually("it was tried again", () => provider.refused > 2);
  provider.recover();
  await eventually("it is ready", () => bed.report?.state === "ready");
  const response = await attestedFetch(`${bed.url}/v1/ready`, bed.policy());
  expect(ReadySchema.parse(await response.json()).certificateNotAfterMs).toBeGreaterThan(Date.now());
  // A connection from before goes on, over the certificate that it began with.
  expect(readAnswer(await client.get("/v1/ready"), ReadySchema).status).toBe("ready");
});

test("a device that breaks down later is seen, told, and seen again when it is back", async () => {
  const { bed, provider, client } = await startFailing(false);
  await eventually("it is ready", () => bed.report?.state === "ready");
  provider.breakDown();
  await eventually("it has failed", () => bed.report?.state === "failed");
  expect(readProblem(await client.get("/v1/ready"))).toEqual(NO_DEVICE);
  expect(readProblem(await client.post("/v1/attestation", { nonce: "AA==" }))).toEqual(NO_DEVICE);
  // The certificate of before is still proof of what it says.
  const response = await attestedFetch(`${bed.url}/v1/health`, bed.policy());
  expect(response.status).toBe(200);
  provider.recover();
  await eventually("it is ready again", () => bed.report?.state === "ready");
  expect((await client.post("/v1/attestation", { nonce: "AA==" })).status).toBe(200);
});

test("a provider that cannot even be opened is opened again", async () => {
  let opened = 0;
  const late: { bed?: AttestationBed } = {};
  const bed = await AttestationBed.start({
    provider: async () => {
      opened += 1;
      if (opened > 2 && late.bed !== undefined) return late.bed.openProvider();
      throw new KitError("E_NSM_NO_DEVICE", "no device yet");
    },
  });
  late.bed = bed;
  stack.push(bed);
  await eventually("it is ready", () => bed.report?.state === "ready");
  expect(bed.reports.some(({ reason }) => reason?.code === "E_NSM_NO_DEVICE")).toBe(true);
});

test("a certificate whose document has ended is no longer shown, and a new one is when there is a new document", async () => {
  const clock = { aheadMs: 0 };
  const { bed, provider } = await startFailing(false, () => Date.now() + clock.aheadMs);
  await eventually("it is ready", () => bed.report?.state === "ready");
  provider.breakDown();
  await eventually("it has failed", () => bed.report?.state === "failed");
  expect(bed.report?.certificateNotAfterMs).not.toBeNull();
  clock.aheadMs = DAY_MS;
  await eventually("the certificate is gone", () => bed.report?.certificateNotAfterMs === null);
  const asked = attestedFetch(`${bed.url}/v1/health`, bed.policy());
  await expect(asked).rejects.toThrow(isKitError("E_EVIDENCE_MISSING"));
  provider.recover();
  await eventually("it is ready again", () => bed.report?.state === "ready");
  expect((await attestedFetch(`${bed.url}/v1/health`, bed.policy())).status).toBe(200);
});
