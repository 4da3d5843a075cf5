/** A kernel that does not redirect, as nitro-cli's own: here the enclave's rules of nftables are taken away. */
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";

import { NetworkReportSchema } from "../../wire/network-schemas.ts";
import {
  type ComplianceEnclave,
  OPEN_TIMEOUT_MS,
  prepareEnclave,
  WAIT_MS,
} from "../compliance/compliance-bed.ts";
import { listen, portOf } from "../pf-proxy/relay-chain.ts";
import { waitFor } from "./testbed.ts";

const Talk = z.object({ answer: z.string(), error: z.string().nullable() });
const outside = createServer({ allowHalfOpen: true }, (socket) =>
  socket.on("error", () => undefined).pipe(socket),
);
let enclave: ComplianceEnclave;

beforeAll(async () => {
  await listen(outside, { port: 0, host: "127.0.0.1" });
  enclave = await prepareEnclave("local", "egress");
  const to = (rule: string): string => `{ ${rule}, connect_to: "127.0.0.1:${portOf(outside)}" }`;
  const rules = [
    to("host: db.test, port: [6000, 6001]"),
    to('host: "*.wild.test", port: 6000'),
    to("cidr: 192.0.2.0/24, port: 6000"),
  ];
  await writeFile(
    enclave.file,
    `name: egress
mode: development
image: { base: { debian: [nftables] }, copy: [{ from: ./app, to: /app }] }
services:
  probe: { command: [node, /app/probe.js], healthcheck: { tcp: 8080, interval: 1s } }
ports: ["127.0.0.1:0:8080"]
egress: [${rules.join(", ")}]
local: { single_user: true }
`,
  );
  await enclave.up();
  await enclave.sh("nft delete table inet enclave");
  await enclave.run("exec", "egress", "--", "sh", "-c", `kill -9 ${(await enclave.inside()).gateway.pid}`);
  await waitFor(
    "the next gateway",
    async () => (await readNetwork()).redirection === "listeners" || undefined,
    WAIT_MS,
  );
}, OPEN_TIMEOUT_MS);
afterAll(async () => {
  await enclave[Symbol.asyncDispose]();
  outside.close();
});

async function readNetwork() {
  const { stdout } = await enclave.run("net", "egress", "--json");
  return z.object({ enclave: NetworkReportSchema }).parse(JSON.parse(stdout || '{"enclave":null}')).enclave;
}

async function talk(host: string, port: number) {
  const request = {
    method: "POST",
    body: JSON.stringify({ host, port, send: "hello" }),
    signal: AbortSignal.timeout(WAIT_MS),
  };
  return Talk.parse(await (await fetch(`http://127.0.0.1:${enclave.hostPort(8080)}/`, request)).json());
}

test("names have a listener for each port, and wildcards get theirs with the address", async () => {
  expect(await talk("db.test", 6000)).toMatchObject({ answer: "hello", error: null });
  expect(await talk("db.test", 6001)).toMatchObject({ answer: "hello", error: null });
  expect(await talk("a.wild.test", 6000)).toMatchObject({ answer: "hello", error: null });
  const egress = (await readNetwork()).listeners.filter(({ purpose }) => purpose === "egress");
  expect(egress.length).toBeGreaterThanOrEqual(3);
});

test("what no rule allows finds nobody", async () => {
  expect(await talk("db.test", 6002)).toMatchObject({ error: "ECONNREFUSED" });
  expect(await talk("example.org", 443)).toMatchObject({ error: "ENOTFOUND" });
  expect((await talk("192.0.2.1", 6000)).error).not.toBe(null);
});
