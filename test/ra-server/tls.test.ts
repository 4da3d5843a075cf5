/** What the server does on the level of connections: versions, tickets, its clients' certificates, deadlines. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, expect, test } from "vitest";

import { attestedFetch } from "../../attest/client/attested-fetch.ts";
import { readEvidence } from "../../attest/client/peer-evidence.ts";
import { ClientCertificates } from "../../ra-server/client-certificates.ts";
import { GUARD_LIMITS } from "../../ra-server/connection-guard.ts";
import { eventually } from "../enclave/eventually.ts";
import { isKitError } from "../enclave/kit-error.ts";
import { AttestationBed, type BedOptions } from "./attestation-bed.ts";
import { BlindClient, readProblem } from "./blind-client.ts";
import { ClientAuthority, DAY_MS } from "./client-authority.ts";

const SERVER_AUTHENTICATION = "1.3.6.1.5.5.7.3.1";
const stack: AsyncDisposable[] = [];

afterEach(async () => {
  for (const one of stack.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

async function start(options: BedOptions = {}): Promise<AttestationBed> {
  const bed = await AttestationBed.start(options);
  stack.push(bed);
  return bed;
}

function valid(): { readonly notBeforeMs: number; readonly notAfterMs: number } {
  return { notBeforeMs: Date.now() - DAY_MS, notAfterMs: Date.now() + DAY_MS };
}

/** However it came about. */
async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
}

/** Whether a request is answered with that certificate, or the connection cut. */
async function isServed(
  bed: AttestationBed,
  identity?: { readonly cert: string; readonly key: string },
): Promise<boolean> {
  await using client = new BlindClient(bed.url, identity);
  return await client.get("/v1/health").then(
    ({ status }) => status === 200,
    () => false,
  );
}

test("the certificate carries a document, in TLS 1.3 with HTTP/1.1", async () => {
  const bed = await start();
  const socket = await bed.connectBlindly({ ALPNProtocols: ["http/1.1"] });
  expect([socket.getProtocol(), socket.alpnProtocol]).toEqual(["TLSv1.3", "http/1.1"]);
  const certificate = socket.getPeerX509Certificate();
  expect(readEvidence(certificate?.raw ?? new Uint8Array(0)).length).toBeGreaterThan(1000);
  socket.destroy();
});

test("an older TLS and another protocol over it are refused in the handshake", async () => {
  const bed = await start();
  await expect(bed.connectBlindly({ maxVersion: "TLSv1.2" })).rejects.toThrow(/protocol version/);
  await expect(bed.connectBlindly({ ALPNProtocols: ["h2"] })).rejects.toThrow(/no application protocol/);
});

test("no session can be resumed", async () => {
  const bed = await start();
  const first = await bed.connectBlindly();
  const session = once(first, "session");
  first.write("GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n");
  const [ticket] = await session;
  first.destroy();
  const second = await bed.connectBlindly({ session: ticket });
  expect(second.isSessionReused()).toBe(false);
  expect(second.getPeerX509Certificate()).toBeDefined();
  second.destroy();
});

test("two servers have keys of their own", async () => {
  const beds = [await start(), await start()] as const;
  const keys = await Promise.all(
    beds.map(async (bed) => {
      const socket = await bed.connectBlindly();
      const key = socket.getPeerX509Certificate()?.publicKey.export({ type: "spki", format: "pem" });
      socket.destroy();
      return key;
    }),
  );
  expect(new Set(keys).size).toBe(2);
});

test("where an authority of clients is configured, only its certificates get in", async () => {
  const [ours, others] = [await ClientAuthority.create("ours"), await ClientAuthority.create("ours")];
  const bed = await start({ clientCa: ours.pem });
  const identity = await ours.issue(valid());
  expect(await isServed(bed, identity)).toBe(true);
  expect(await isServed(bed)).toBe(false);
  expect(await isServed(bed, await others.issue(valid()))).toBe(false);
  expect(await isServed(bed, await ours.issue(valid(), SERVER_AUTHENTICATION))).toBe(false);
  const response = await attestedFetch(`${bed.url}/v1/health`, { ...bed.policy(), identity });
  expect(response.status).toBe(200);
});

test("a configuration that names no authority of clients lets nobody in", async () => {
  for (const clientCa of ["", "no PEM"]) {
    expect(() => new ClientCertificates(clientCa, Date.now)).toThrow(isKitError("E_RA_CLIENT"));
  }
});

test("a client's certificate that has ended is refused, also if only the documents know that it has", async () => {
  const authority = await ClientAuthority.create("ours");
  const past = await authority.issue({
    notBeforeMs: Date.now() - 2 * DAY_MS,
    notAfterMs: Date.now() - DAY_MS,
  });
  const bed = await start({ clientCa: authority.pem });
  expect(await isServed(bed, past)).toBe(false);
  // The host has turned the enclave's clock back; to the machine of this test the certificate is good.
  const ahead = await start({ clientCa: authority.pem, nsmNowMs: () => Date.now() + 2 * DAY_MS });
  expect(await isServed(ahead, await authority.issue(valid()))).toBe(false);
  const lasting = await authority.issue({
    notBeforeMs: Date.now() - DAY_MS,
    notAfterMs: Date.now() + 9 * DAY_MS,
  });
  expect(await isServed(ahead, lasting)).toBe(true);
});

test("a certificate that begins when the documents say it has begun is good, however late the system clock", async () => {
  const authority = await ClientAuthority.create("ours");
  const other = await ClientAuthority.create("ours");
  const bed = await start({ clientCa: authority.pem, nsmNowMs: () => Date.now() + 2 * DAY_MS });
  const validity = { notBeforeMs: Date.now() + DAY_MS, notAfterMs: Date.now() + 9 * DAY_MS };
  expect(await isServed(bed, await authority.issue(validity))).toBe(true);
  expect(await isServed(bed, await other.issue(validity))).toBe(false);
  expect(await isServed(bed, await authority.issue(validity, SERVER_AUTHENTICATION))).toBe(false);
});

test("a client whose certificate ends while it is connected is refused with its next request", async () => {
  const clock = { aheadMs: 0 };
  const authority = await ClientAuthority.create("ours");
  const bed = await start({ clientCa: authority.pem, nowMs: () => Date.now() + clock.aheadMs });
  await using client = new BlindClient(bed.url, await authority.issue(valid()));
  expect((await client.get("/v1/health")).status).toBe(200);
  clock.aheadMs = 2 * DAY_MS;
  expect(readProblem(await client.get("/v1/health"))).toEqual({ status: 403, code: "E_RA_CLIENT" });
});

test("a jump of the system clock is reported", async () => {
  const clock = { aheadMs: 0 };
  const bed = await start({ nowMs: () => Date.now() + clock.aheadMs });
  await using client = new BlindClient(bed.url);
  clock.aheadMs = -DAY_MS;
  expect((await client.post("/v1/attestation", { nonce: "AA==" })).status).toBe(200);
  await eventually("it is reported", () => bed.report?.clockJumps === 1);
  expect(bed.report?.clockOffsetMs).toBeLessThan(-DAY_MS + 60_000);
  expect(bed.logged.join("")).toContain("the system clock jumped");
});

test("clients that are slow with their handshake, request or reading are cut off", async () => {
  const limits = { ...GUARD_LIMITS, handshakeMs: 300, requestMs: 300, answerMs: 300 };
  const plenty = { perSecond: 1e6, burst: 1e6 };
  const rates = { connection: plenty, all: plenty, attestation: plenty, verify: plenty };
  const bed = await start({ server: { connections: limits, rates } });
  const cuts = async (reason: string): Promise<number> => {
    await using client = new BlindClient(bed.url);
    const { text } = await client.get("/v1/metrics");
    return Number(new RegExp(`connections_cut_total{reason="${reason}"} ([0-9]+)`).exec(text)?.[1] ?? 0);
  };
  const silent = connect(bed.port, "127.0.0.1").on("error", () => undefined);
  await closed(silent.resume());
  expect(await cuts("handshake")).toBe(1);
  const dripping = await bed.connectBlindly();
  dripping.on("error", () => undefined).resume();
  dripping.write("GET /v1/health HTTP/1.1\r\nx-name: ");
  const drip = setInterval(() => dripping.write("x"), 30);
  await closed(dripping);
  clearInterval(drip);
  expect(await cuts("request")).toBe(1);
  const withoutBody = await bed.connectBlindly();
  withoutBody.on("error", () => undefined).resume();
  withoutBody.write("POST /v1/attestation HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
  withoutBody.write("content-length: 100\r\n\r\n{");
  await closed(withoutBody);
  expect(await cuts("request")).toBe(2);
  const deaf = await bed.connectBlindly();
  deaf.on("error", () => undefined);
  const asking = setInterval(() => {
    if (!deaf.writableNeedDrain) deaf.write("GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n");
  }, 2);
  await closed(deaf);
  clearInterval(asking);
  deaf.destroy();
  expect(await isServed(bed)).toBe(true);
});

test("bytes that are no TLS, and requests that are no HTTP, end their own connection alone", async () => {
  const bed = await start();
  const plain = connect(bed.port, "127.0.0.1").on("error", () => undefined);
  plain.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await closed(plain.resume());
  const strange = connectTls({ host: "127.0.0.1", port: bed.port, rejectUnauthorized: false });
  let answer = "";
  strange.on("data", (chunk) => (answer += String(chunk))).on("error", () => undefined);
  strange.write("\0\x01\x02 this is no request\r\n\r\n");
  await closed(strange);
  expect(answer).toMatch(/^HTTP\/1.1 400 .*"code":"E_RA_REQUEST"/s);
  expect(await isServed(bed)).toBe(true);
});

test("who asks too often is told when to ask again, and others are served", async () => {
  const slow = { perSecond: 1, burst: 3 };
  const plenty = { perSecond: 1000, burst: 1000 };
  const rates = { connection: slow, all: plenty, attestation: plenty, verify: plenty };
  const bed = await start({ server: { rates } });
  const socket = await bed.connectBlindly();
  let answers = "";
  socket.on("data", (chunk) => (answers += String(chunk)));
  socket.write("GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n".repeat(4));
  await eventually("the fourth is refused", () => answers.includes('"code":"E_RA_LIMIT"'));
  expect(answers.match(/HTTP\/1.1 200/g)).toHaveLength(3);
  expect(answers).toMatch(/HTTP\/1.1 429 .*retry-after: 1\r\n/s);
  socket.destroy();
  expect(await isServed(bed)).toBe(true);
});

test("documents for all clients together have a limit of their own", async () => {
  const plenty = { perSecond: 1000, burst: 1000 };
  const rates = {
    connection: plenty,
    all: plenty,
    attestation: { perSecond: 0.1, burst: 2 },
    verify: plenty,
  };
  const bed = await start({ server: { rates } });
  const statuses: number[] = [];
  for (let count = 0; count < 3; count += 1) {
    await using client = new BlindClient(bed.url);
    statuses.push((await client.post("/v1/attestation", { nonce: "AA==" })).status);
  }
  expect(statuses).toEqual([200, 200, 429]);
  expect(await isServed(bed)).toBe(true);
});
