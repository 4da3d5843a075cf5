import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { fastify } from "fastify";

import { openBenchEnclave } from "./operate-enclave.ts";
import { print } from "./pipeline-process.ts";

const CONNECTIONS = 8;
const SECONDS = 5;

/** Requests for the enclave's status, each through gateway and supervisor, beside a bare route that answers the same bytes. */
export async function measureControl(): Promise<void> {
  await using enclave = await openBenchEnclave();
  const directory = await mkdtemp(join(tmpdir(), "control-"));
  const ours = join(enclave.stateDir, "enclaves", "bench", "vsock", "guest", "9001");
  const status: unknown = await enclave.client.status(AbortSignal.timeout(5_000));
  const peer = fastify({ logger: false });
  peer.get("/v1/status", async (_request, reply) => void (await reply.send(status)));
  try {
    const path = join(directory, "peer.sock");
    await peer.listen({ path });
    const peerRate = await countRequests(path);
    const ourRate = await countRequests(ours);
    print(`control: bare fastify route on a Unix socket ${peerRate.toFixed(0)} requests/s (in this process)`);
    print(`control: status ${ourRate.toFixed(0)} requests/s, ratio ${(peerRate / ourRate).toFixed(1)}`);
  } finally {
    await peer.close();
    await rm(directory, { recursive: true });
  }
}

async function countRequests(socketPath: string): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const end = performance.now() + SECONDS * 1000;
  let count = 0;
  const lane = async (): Promise<void> => {
    while (performance.now() < end) {
      await ask(socketPath, agent);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, lane));
  agent.destroy();
  return count / SECONDS;
}

async function ask(socketPath: string, agent: Agent): Promise<void> {
  const sent = request({ socketPath, path: "/v1/status", agent });
  sent.end();
  const [response] = await once(sent, "response");
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
  response.resume();
  await once(response, "end");
}
