/** A thousand handshakes at once. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, expect, test } from "vitest";

import { attestedFetch } from "../../attest/client/attested-fetch.ts";
import { GUARD_LIMITS } from "../../ra-server/connection-guard.ts";
import { eventually } from "../enclave/eventually.ts";
import { AttestationBed } from "./attestation-bed.ts";

const CONNECTIONS = 1000;
const stack: AsyncDisposable[] = [];

afterEach(async () => {
  for (const one of stack.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

async function start(connections: number): Promise<AttestationBed> {
  const bed = await AttestationBed.start({ server: { connections: { ...GUARD_LIMITS, connections } } });
  stack.push(bed);
  return bed;
}

/** One whole handshake and a request. */
async function ask(port: number): Promise<boolean> {
  const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false });
  socket.on("error", () => undefined);
  socket.write("GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  let answer = "";
  socket.on("data", (chunk) => (answer += String(chunk)));
  await new Promise((resolve) => socket.once("close", resolve));
  return answer.startsWith("HTTP/1.1 200");
}

test("a thousand clients at once are all served", async () => {
  const bed = await start(GUARD_LIMITS.connections);
  const served = await Promise.all(Array.from({ length: CONNECTIONS }, async () => await ask(bed.port)));
  expect(served.filter(Boolean)).toHaveLength(CONNECTIONS);
});

test("a thousand connections that never finish their handshake keep nobody out", async () => {
  const bed = await start(100);
  const idle: Socket[] = [];
  for (let count = 0; count < CONNECTIONS; count += 1) {
    const socket = connect(bed.port, "127.0.0.1").on("error", () => undefined);
    idle.push(socket.resume());
    if (count % 50 === 0) await once(socket, "connect");
  }
  const response = await attestedFetch(`${bed.url}/v1/metrics`, bed.policy());
  expect(response.status).toBe(200);
  expect(await response.text()).toMatch(/connections_cut_total\{reason="place"\} [1-9]/);
  const isGone = (socket: Socket): boolean => socket.closed;
  await eventually("no more than allowed are left", () => idle.filter(isGone).length >= CONNECTIONS - 100);
  for (const socket of idle) socket.destroy();
});
