/** Certificates are replaced while clients work. */
import { once } from "node:events";
import { afterEach, expect, test } from "vitest";
import { fetch } from "undici";

import { attestedAgent } from "../../attest/client/attested-agent.ts";
import { connectAttested } from "../../attest/client/attested-connection.ts";
import { REQUEST_RATES } from "../../ra-server/api/request-limits.ts";
import { eventually } from "../enclave/eventually.ts";
import { AttestationBed, QUICK_TIMING } from "./attestation-bed.ts";

const RENEWALS = 12;
const stack: AsyncDisposable[] = [];

afterEach(async () => {
  for (const one of stack.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

async function start(renewMs: number): Promise<AttestationBed> {
  const plenty = { perSecond: 1e6, burst: 1e6 };
  const rates = { ...REQUEST_RATES, connection: plenty, all: plenty, attestation: plenty };
  const timing = { ...QUICK_TIMING, renewMs };
  const bed = await AttestationBed.start({ server: { timing, rates } });
  stack.push(bed);
  return bed;
}

function countIssued(bed: AttestationBed): number {
  return bed.logged.filter((line) => line.includes("certificate issued")).length;
}

test("the certificate is renewed many times under load, and no request fails", async () => {
  const bed = await start(100);
  const agent = attestedAgent(bed.policy());
  stack.push({ [Symbol.asyncDispose]: async () => await agent.destroy() });
  let served = 0;
  const isOver = (): boolean => countIssued(bed) > RENEWALS;
  const lane = async (headers: Record<string, string>): Promise<void> => {
    while (!isOver()) {
      const response = await fetch(`${bed.url}/v1/attestation`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: '{"nonce":"AAAA"}',
        dispatcher: agent,
      });
      expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("document")]);
      served += 1;
    }
  };
  // Two that keep their connection, and two that make a new one for each request.
  await Promise.all([lane({}), lane({}), lane({ connection: "close" }), lane({ connection: "close" })]);
  expect(served).toBeGreaterThan(RENEWALS);
});

test("a connection goes on over the certificate that it began with, and a new one sees the new", async () => {
  const bed = await start(200);
  const open = async () =>
    await connectAttested({
      to: { host: "127.0.0.1", port: bed.port },
      policy: bed.policy(),
      signal: AbortSignal.timeout(20_000),
    });
  const first = await open();
  const before = countIssued(bed);
  await eventually("there is a new certificate", () => countIssued(bed) > before);
  const second = await open();
  expect(second.spki).not.toEqual(first.spki);
  first.socket.write("GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n");
  const [answer] = await once(first.socket, "data");
  expect(String(answer)).toMatch(/^HTTP\/1.1 200/);
  first.socket.destroy();
  second.socket.destroy();
});
