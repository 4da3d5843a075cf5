/** Agents and single requests over attested connections: addresses, redirects, keep-alive, ends. */
import { once } from "node:events";
import { createServer as createHttpsServer } from "node:https";
import { connect, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { fetch } from "undici";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { attestedAgent } from "../../../attest/client/attested-agent.ts";
import { connectAttested } from "../../../attest/client/attested-connection.ts";
import { attestedFetch } from "../../../attest/client/attested-fetch.ts";
import { AttestedTime } from "../../../ra-server/attested-time.ts";
import { EvidenceSource } from "../../../ra-server/evidence-source.ts";
import { createTlsKey, issueIdentity, type TlsIdentity } from "../../../ra-server/tls-identity.ts";
import { eventually } from "../../enclave/eventually.ts";
import { isKitError } from "../../enclave/kit-error.ts";
import { AttestationBed } from "../../ra-server/attestation-bed.ts";
import { portOf } from "../../ra-server/port-of.ts";
import { type Cleanup, listenAsStranger, listenRaw, strangerWith } from "./strangers.ts";

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

test("addresses that show no certificate are refused before anything is dialled", async () => {
  for (const url of ["http://127.0.0.1:1/", "file:///etc/passwd", "not a URL"]) {
    await expect(attestedFetch(url, bed().policy())).rejects.toThrow(isKitError("E_RA_URL"));
  }
  const agent = attestedAgent(bed().policy());
  cleanup.push(async () => await agent.destroy());
  const asked = fetch(`http://127.0.0.1:${bed().port}/v1/health`, { dispatcher: agent });
  await expect(asked).rejects.toMatchObject({ cause: isKitError("E_RA_URL") });
});

test("a redirect is an error, and one that is followed leads to a peer that must prove itself too", async () => {
  const { port: strangerPort, heard } = await listenAsStranger(await strangerWith(), cleanup);
  // The redirecting peer is one that a policy of this test believes: TLS of the bed, answers of another server.
  const location = `https://127.0.0.1:${strangerPort}/`;
  const port = await redirectFromGenuine(location);
  const url = `https://127.0.0.1:${port}/`;
  await expect(attestedFetch(url, bed().policy(), { signal: deadline() })).rejects.toThrow();
  const followed = attestedFetch(url, bed().policy(), { redirect: "follow", signal: deadline() });
  await expect(followed).rejects.toThrow(isKitError("E_EVIDENCE_MISSING"));
  expect(Buffer.concat(heard).length).toBe(0);
});

/** A server with a genuine document over its own key, which the NSM of the bed gives to whoever runs in the enclave. */
async function redirectFromGenuine(location: string): Promise<number> {
  const server = createHttpsServer(await genuineIdentity(), (_request, response) => {
    response.writeHead(302, { location }).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanup.push(() => server.close());
  return portOf(server);
}

async function genuineIdentity(): Promise<TlsIdentity> {
  const provider = bed().openProvider();
  cleanup.push(async () => await provider[Symbol.asyncDispose]());
  const source = new EvidenceSource({
    provider,
    providerName: "development",
    time: new AttestedTime(Date.now),
    monotonicMs: () => performance.now(),
    onDocument: () => undefined,
  });
  const key = await createTlsKey();
  const { bytes, leaf } = await source.ofTlsKey(key.spki, deadline());
  return await issueIdentity(key, { name: "signer", ...leaf, document: bytes });
}

test("an agent keeps proven connections, and dials and proves a new one after each that has ended", async () => {
  let dialled = 0;
  const agent = attestedAgent(bed().policy(), {
    dial: async (host, port, signal) => {
      dialled += 1;
      const socket = connect(port, host);
      await once(socket, "connect", { signal });
      return { socket };
    },
  });
  cleanup.push(async () => await agent.destroy());
  const ask = async (headers: Record<string, string>): Promise<void> => {
    const response = await fetch(`${bed().url}/v1/health`, { dispatcher: agent, headers });
    expect(await response.json()).toEqual({ status: "alive" });
  };
  for (let count = 0; count < 10; count += 1) await ask({});
  // undici makes a second where the first is not yet free again.
  const kept = dialled;
  expect(kept).toBeLessThanOrEqual(2);
  for (let count = 0; count < 10; count += 1) await ask({ connection: "close" });
  expect(dialled - kept).toBeGreaterThanOrEqual(8);
});

test("an abort and the agent's end cut connections that are being made", async () => {
  const waiting: Socket[] = [];
  const port = await listenRaw((socket) => waiting.push(socket), cleanup);
  const stop = new AbortController();
  const asked = connectAttested({
    to: { host: "127.0.0.1", port },
    policy: bed().policy(),
    signal: stop.signal,
  });
  await eventually("it is connected", () => waiting.length === 1);
  stop.abort();
  await expect(asked).rejects.toThrow(isKitError("E_CANCELLED"));
  const agent = attestedAgent(bed().policy());
  const pending = fetch(`https://127.0.0.1:${port}/`, { dispatcher: agent });
  const refused = expect(pending).rejects.toThrow();
  await eventually("the agent is connected", () => waiting.length === 2);
  await agent.destroy();
  await refused;
  for (const socket of waiting) {
    if (!socket.closed) await once(socket.resume(), "close");
  }
});

test("a peer that hangs up, refuses or speaks an older TLS is no connection", async () => {
  const port = await listenRaw((socket) => socket.destroy(), cleanup);
  const old = createTlsServer({ ...(await strangerWith()), maxVersion: "TLSv1.2" });
  old.listen(0, "127.0.0.1");
  await once(old, "listening");
  cleanup.push(() => old.close());
  for (const target of [port, portOf(old), 1]) {
    const asked = connectAttested({
      to: { host: "127.0.0.1", port: target },
      policy: bed().policy(),
      signal: deadline(),
    });
    await expect(asked).rejects.toThrow(isKitError("E_RA_CONNECT"));
  }
});
