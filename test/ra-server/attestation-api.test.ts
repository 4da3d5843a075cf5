/** The routes of the attestation API, asked over real connections. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";

import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { API_ROUTES } from "../../ra-server/api/routes.ts";
import {
  AttestationAnswerSchema,
  ImageSchema,
  ReadySchema,
  RegistersSchema,
  VerifyAnswerSchema,
} from "../../wire/attestation-api.ts";
import { isKitError } from "../enclave/kit-error.ts";
import { AttestationBed, expected } from "./attestation-bed.ts";
import { BlindClient, readAnswer, readProblem } from "./blind-client.ts";

const running: { bed?: AttestationBed; client?: BlindClient } = {};
const verifier = new DocumentVerifier(createNodeCrypto());
const REFUSED = { status: 400, code: "E_RA_REQUEST" };

beforeAll(async () => {
  running.bed = await AttestationBed.start();
  running.client = new BlindClient(running.bed.url);
});
afterAll(async () => {
  await running.client?.[Symbol.asyncDispose]();
  await running.bed?.[Symbol.asyncDispose]();
});

function bed(): AttestationBed {
  if (running.bed === undefined) throw new Error("not started");
  return running.bed;
}

function client(): BlindClient {
  if (running.client === undefined) throw new Error("not started");
  return running.client;
}

function base64(bytes: Uint8Array | string): string {
  return Buffer.from(bytes).toString("base64");
}

async function attest(nonce: Uint8Array, statement?: string): Promise<Uint8Array> {
  const body = { nonce: base64(nonce), ...(statement === undefined ? {} : { statement: base64(statement) }) };
  const answer = await client().post("/v1/attestation", body);
  return readAnswer(answer, AttestationAnswerSchema).document;
}

function statement(text: string): { name: "statement"; data: Uint8Array } {
  return { name: "statement", data: new Uint8Array(Buffer.from(text)) };
}

test("a document says the caller's nonce and statement, and nothing of the caller's as it is", async () => {
  const nonce = randomBytes(32);
  const document = await attest(nonce, "the build is green");
  const policy = { ...bed().policy(), nonce, purpose: statement("the build is green") };
  const { userData, publicKey } = await verifier.verify(document, policy, Date.now());
  expect(userData).toHaveLength(34);
  expect(publicKey).toBeNull();
  expect(Buffer.from(document).includes("the build is green")).toBe(false);
});

test("a document without a statement is one over no bytes", async () => {
  const nonce = randomBytes(16);
  await verifier.verify(
    await attest(nonce),
    { ...bed().policy(), nonce, purpose: statement("") },
    Date.now(),
  );
});

test("a nonce that was asked for before is not the one that is asked for now", async () => {
  const old = await attest(randomBytes(32));
  const verdict = verifier.verify(old, { ...bed().policy(), nonce: randomBytes(32) }, Date.now());
  await expect(verdict).rejects.toThrow(isKitError("E_UNMET_NONCE"));
});

test("a statement is no key of a TLS connection, and no other purpose", async () => {
  const nonce = randomBytes(32);
  const document = await attest(nonce, "words");
  for (const name of ["ra-tls", "kms", "control", "files", "audit"] as const) {
    const purpose = { name, data: statement("words").data };
    const verdict = verifier.verify(document, { ...bed().policy(), nonce, purpose }, Date.now());
    await expect(verdict).rejects.toThrow(isKitError("E_UNMET_PURPOSE"));
  }
});

test.each([1, 512])("a nonce of %i bytes is taken", async (size) => {
  const nonce = randomBytes(size);
  await verifier.verify(await attest(nonce), { ...bed().policy(), nonce }, Date.now());
});

test.each([0, 513, 1025])("a nonce of %i bytes is refused", async (size) => {
  const answer = await client().post("/v1/attestation", { nonce: base64(randomBytes(size)) });
  expect(readProblem(answer)).toEqual(REFUSED);
});

test.each([
  ["no body", ""],
  ["no nonce", "{}"],
  ["another key", '{"nonce":"AA==","user_data":"AA=="}'],
  ["a public key", '{"nonce":"AA==","publicKey":"AA=="}'],
  ["base64 without padding", '{"nonce":"AA"}'],
  ["base64 with other bits than it says", '{"nonce":"AB=="}'],
  ["base64 of URLs", '{"nonce":"_-8="}'],
  ["hex", '{"nonce":"abc"}'],
  ["a number", '{"nonce":7}'],
  ["no JSON", "{nonce}"],
  ["a list", "[]"],
  ["a prototype", '{"nonce":"AA==","__proto__":{}}'],
])("a request with %s is refused", async (_what, body) => {
  expect(readProblem(await client().send("/v1/attestation", body))).toEqual(REFUSED);
});

test("a statement of 16 KiB is taken, and a byte more is refused", async () => {
  const most = "x".repeat(16 * 1024);
  const nonce = randomBytes(512);
  await verifier.verify(
    await attest(nonce, most),
    { ...bed().policy(), nonce, purpose: statement(most) },
    Date.now(),
  );
  const answer = await client().post("/v1/attestation", { nonce: "AA==", statement: base64(`${most}x`) });
  expect(readProblem(answer)).toEqual(REFUSED);
});

test("bodies over the limit, of other types, and queries are refused", async () => {
  const large = await client().send("/v1/attestation", Buffer.alloc(100_000, " "));
  expect(readProblem(large)).toEqual(REFUSED);
  expect(readProblem(await client().send("/v1/verify", "x", "text/plain"))).toEqual(REFUSED);
  expect(readProblem(await client().get("/v1/health?deep=1"))).toEqual(REFUSED);
  expect(readProblem(await client().get("/v1/other"))).toEqual({ status: 404, code: "E_RA_NOT_FOUND" });
  expect(readProblem(await client().get("/v1/attestation"))).toEqual({
    status: 404,
    code: "E_RA_NOT_FOUND",
  });
});

test("ready, registers and image say what the documents say", async () => {
  const ready = readAnswer(await client().get("/v1/ready"), ReadySchema);
  expect(ready).toMatchObject({ status: "ready", provider: "development", clockJumps: 0 });
  expect(Math.abs(ready.clockOffsetMs)).toBeLessThan(60_000);
  const { digest, pcrs } = readAnswer(await client().get("/v1/pcrs"), RegistersSchema);
  expect(digest).toBe("SHA384");
  expect(pcrs).toMatchObject(Object.fromEntries(expected(1)));
  const image = readAnswer(await client().get("/v1/image"), ImageSchema);
  expect(image).toEqual({
    name: "signer",
    mode: "development",
    provider: "development",
    rootSha256: bed().authority.rootSha256,
    toolkit: "0.1.0",
    configSha256: "c".repeat(64),
    lockSha256: null,
    measurements: pcrs,
  });
});

test("a verdict is an answer: why a document is refused, or what it says, and whose word that is", async () => {
  const nonce = randomBytes(32);
  const document = base64(await attest(nonce, "words"));
  const ask = async (more: Readonly<Record<string, unknown>>) =>
    readAnswer(await client().post("/v1/verify", { document, ...more }), VerifyAnswerSchema);
  const good = await ask({
    nonce: base64(nonce),
    statement: base64("words"),
    pcrs: Object.fromEntries(expected(1)),
  });
  expect(good).toMatchObject({ verified: true, refusal: null });
  expect(good.document).toMatchObject({ rootSha256: bed().authority.rootSha256, isDebug: false });
  expect(good.note).toContain("Only this enclave's word");
  const codes = [
    (await ask({ nonce: base64(randomBytes(32)) })).refusal?.code,
    (await ask({ root: "0".repeat(64) })).refusal?.code,
    (await ask({ pcrs: { 0: "ab".repeat(48) } })).refusal?.code,
    (await ask({ statement: base64("other words") })).refusal?.code,
    (await ask({ document: base64("no document") })).refusal?.code,
  ];
  const [nonceCode, rootCode, pcrCode, purposeCode, bytesCode] = codes;
  expect([nonceCode, rootCode]).toEqual(["E_UNMET_NONCE", "E_EVIDENCE_ROOT"]);
  expect([pcrCode, purposeCode]).toEqual(["E_UNMET_MEASUREMENTS", "E_UNMET_PURPOSE"]);
  expect(bytesCode).toMatch(/^E_EVIDENCE_/);
});

test("metrics are Prometheus text of this server alone", async () => {
  await client().get("/v1/health");
  const { status, type, text } = await client().get("/v1/metrics");
  expect([status, type]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  expect(text).toMatch(/^enclave_attestation_requests_total\{operation="health",status="200"\} [1-9]/m);
  expect(text).toMatch(/^enclave_attestation_ready 1$/m);
  expect(text).toMatch(/^enclave_attestation_clock_offset_seconds -?[0-9.e-]+$/m);
  expect(text).toMatch(/^enclave_attestation_document_seconds_count [1-9]/m);
});

test("every route of the description is served, and the description with them", async () => {
  const { text } = await client().get("/v1/openapi.json");
  const description: unknown = JSON.parse(text);
  const paths = Object.values(API_ROUTES).map(({ path }) => path);
  expect(description).toMatchObject({
    openapi: "3.1.0",
    paths: Object.fromEntries(paths.map((p) => [p, {}])),
  });
  for (const { method, path } of Object.values(API_ROUTES)) {
    const answer = method === "GET" ? await client().get(path) : await client().send(path, "{}");
    expect(answer.status).toBe(method === "GET" ? 200 : 400);
  }
});
