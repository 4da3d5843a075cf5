/** Attested clients against genuine servers, and against everybody who is not the one that the policy asks for. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { connectAttested } from "../../../attest/client/attested-connection.ts";
import { attestedFetch } from "../../../attest/client/attested-fetch.ts";
import type { ClientPolicy } from "../../../attest/client/client-policy.ts";
import { readEvidence } from "../../../attest/client/peer-evidence.ts";
import { AWS_ROOT_SHA256 } from "../../../attest/verify/aws-root.ts";
import type { ErrorCode } from "../../../core/error-table.ts";
import { createTlsKey, issueIdentity } from "../../../ra-server/tls-identity.ts";
import { eventually } from "../../enclave/eventually.ts";
import { isKitError } from "../../enclave/kit-error.ts";
import { AttestationBed, DIGEST_BYTES, expected } from "../../ra-server/attestation-bed.ts";
import { answerClientHello } from "./forging-tls-server.ts";
import { type Cleanup, HOUR_MS, listenAsStranger, listenRaw, strangerWith } from "./strangers.ts";
import { WireRecorder } from "./wire-recorder.ts";

const SECRET = "the client's secret";
const running: { bed?: AttestationBed } = {};
const cleanup: Cleanup = [];

beforeAll(async () => {
  running.bed = await AttestationBed.start();
});
afterAll(async () => {
  await running.bed?.[Symbol.asyncDispose]();
});
afterEach(async () => {
  for (const close of cleanup.splice(0).reverse()) await close();
});

function bed(): AttestationBed {
  if (running.bed === undefined) throw new Error("not started");
  return running.bed;
}

function deadline(): AbortSignal {
  return AbortSignal.timeout(20_000);
}

async function recordWireTo(port: number): Promise<WireRecorder> {
  const recorder = await WireRecorder.start(port);
  cleanup.push(async () => await recorder[Symbol.asyncDispose]());
  return recorder;
}

/** A request with a secret in its head and body, over a wire that is listened to. */
async function tellSecret(port: number, policy: ClientPolicy): Promise<WireRecorder> {
  const recorder = await recordWireTo(port);
  await attestedFetch(`${recorder.url}/v1/attestation`, policy, {
    method: "POST",
    headers: { "content-type": "application/json", "x-secret": SECRET },
    body: JSON.stringify({ nonce: Buffer.from(SECRET).toString("base64") }),
    signal: deadline(),
  });
  return recorder;
}

/** Refused by that code, and no application byte was on the wire. */
async function expectSilence(port: number, policy: ClientPolicy, code: ErrorCode): Promise<void> {
  const recorder = await recordWireTo(port);
  const asked = attestedFetch(`${recorder.url}/v1/health`, policy, {
    headers: { "x-secret": SECRET },
    signal: deadline(),
  });
  await expect(asked).rejects.toThrow(isKitError(code));
  await eventually("the client has said its hello", () => recorder.records().length > 0);
  expect(recorder.applicationRecords()).toEqual([]);
}

/** The certificate that the genuine server shows to everybody. */
async function fetchCertificate(): Promise<X509Certificate> {
  const socket = await bed().connectBlindly();
  const certificate = socket.getPeerX509Certificate();
  socket.destroy();
  if (certificate === undefined) throw new Error("no certificate");
  return certificate;
}

test("the right image gets the request, and the recorder would have seen a secret", async () => {
  const recorder = await tellSecret(bed().port, bed().policy());
  expect(recorder.applicationRecords().length).toBeGreaterThan(0);
});

test("any of several releases is the right image", async () => {
  const policy = { ...bed().policy(), measurements: [expected(77), expected(1)] };
  const response = await attestedFetch(`${bed().url}/v1/health`, policy);
  expect(await response.json()).toEqual({ status: "alive" });
});

test("a wrong image hears nothing", async () => {
  await expectSilence(bed().port, bed().policy(9), "E_UNMET_MEASUREMENTS");
});

test("a debug image hears nothing, unless it is allowed", async () => {
  const zeros = new Map([0, 1, 2].map((index) => [index, new Uint8Array(DIGEST_BYTES)]));
  await using debug = await AttestationBed.start({ measurements: zeros });
  const policy = { roots: [debug.authority.rootSha256] };
  await expectSilence(debug.port, policy, "E_UNMET_DEBUG");
  const response = await attestedFetch(`${debug.url}/v1/health`, { ...policy, allowDebug: true });
  expect(response.status).toBe(200);
});

test("a development document never passes for one of AWS", async () => {
  await expectSilence(bed().port, { ...bed().policy(), roots: [AWS_ROOT_SHA256] }, "E_EVIDENCE_ROOT");
});

test("who serves the genuine certificate with a key of his own cannot finish the handshake", async () => {
  const certificate = (await fetchCertificate()).raw;
  const privateKey = createPrivateKey((await strangerWith()).key);
  const port = await listenRaw((socket) => {
    socket.once("data", (hello: Buffer) => answerClientHello(socket, hello, { certificate, privateKey }));
  }, cleanup);
  await expectSilence(port, bed().policy(), "E_RA_CONNECT");
});

test("the forging server of these tests does finish handshakes with a key that fits", async () => {
  const own = await strangerWith();
  const identity = {
    certificate: new X509Certificate(own.cert).raw,
    privateKey: createPrivateKey(own.key),
  };
  const port = await listenRaw((socket) => {
    socket.once("data", (hello: Buffer) => answerClientHello(socket, hello, identity));
  }, cleanup);
  await expectSilence(port, bed().policy(), "E_EVIDENCE_MISSING");
});

test("who says again what the genuine server once said cannot finish the handshake", async () => {
  const said: Buffer[] = [];
  const genuine = connect(bed().port, "127.0.0.1");
  const port = await listenRaw((socket) => {
    if (genuine.destroyed) return void socket.once("data", () => socket.write(Buffer.concat(said)));
    socket.pipe(genuine).on("data", (chunk: Buffer) => said.push(chunk));
    genuine.pipe(socket);
  }, cleanup);
  const { socket } = await connectAttested({
    to: { host: "127.0.0.1", port },
    policy: bed().policy(),
    signal: deadline(),
  });
  socket.destroy();
  genuine.destroy();
  expect(said.length).toBeGreaterThan(0);
  await expectSilence(port, bed().policy(), "E_RA_CONNECT");
});

test("a genuine document in a certificate over another key is refused", async () => {
  const document = readEvidence((await fetchCertificate()).raw);
  const { port, heard } = await listenAsStranger(await strangerWith(document), cleanup);
  await expectSilence(port, bed().policy(), "E_UNMET_PURPOSE");
  expect(Buffer.concat(heard).length).toBe(0);
});

test("a genuine document that was made for a caller proves no connection", async () => {
  const key = await createTlsKey();
  const response = await attestedFetch(`${bed().url}/v1/attestation`, bed().policy(), {
    method: "POST",
    headers: { "content-type": "application/json" },
    // The best that a host can ask for: its own key as the statement.
    body: JSON.stringify({ nonce: "AA==", statement: Buffer.from(key.spki).toString("base64") }),
  });
  const answer: unknown = await response.json();
  const text = typeof answer === "object" && answer !== null && "document" in answer ? answer.document : "";
  const document = Buffer.from(String(text), "base64");
  const validity = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };
  const identity = await issueIdentity(key, { name: "signer", ...validity, document });
  const { port, heard } = await listenAsStranger(identity, cleanup);
  await expectSilence(port, bed().policy(), "E_UNMET_PURPOSE");
  expect(Buffer.concat(heard).length).toBe(0);
});

test("a server without evidence, and one with bytes for evidence, are refused as bad evidence", async () => {
  const bare = await listenAsStranger(await strangerWith(), cleanup);
  await expectSilence(bare.port, bed().policy(), "E_EVIDENCE_MISSING");
  const garbage = await listenAsStranger(await strangerWith(new Uint8Array(500).fill(0x84)), cleanup);
  const asked = attestedFetch(`https://127.0.0.1:${garbage.port}/`, bed().policy());
  await expect(asked).rejects.toMatchObject({ exitStatus: 3 });
  expect(Buffer.concat([...bare.heard, ...garbage.heard]).length).toBe(0);
});

test("an enclave whose certificate is older than the policy allows is refused", async () => {
  const policy = { ...bed().policy(), maxAgeMs: 60_000, clock: () => Date.now() + HOUR_MS / 2 };
  await expectSilence(bed().port, policy, "E_UNMET_AGE");
});
