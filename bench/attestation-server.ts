import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { attestedFetch } from "../attest/client/attested-fetch.ts";
import type { BenchPorts } from "./attestation-process.ts";
import { print } from "./pipeline-process.ts";

/** Enough to keep one process busy. */
const LANES = 8;
const SECONDS = 5;
const HANDSHAKES = 1000;
const MIB = 1024 ** 2;
const BODY = JSON.stringify({ nonce: Buffer.alloc(32, 7).toString("base64") });

interface Figures {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Documents over HTTPS, beside a bare route with one ES384 signature; both in one process, and this one asks. */
export async function measureAttestationServer(): Promise<void> {
  const child = fork(join(import.meta.dirname, "attestation-process.ts"), { execArgv: ["--expose-gc"] });
  try {
    const ports = await receive<BenchPorts>(child);
    const before = await askMemory(child);
    await compare("keep-alive", ports, { keepAlive: true, maxSockets: LANES });
    await compare("fresh handshakes", ports, { keepAlive: false, maxCachedSessions: 0 });
    const after = await askMemory(child);
    print(
      `attestation: memory ${toMib(before)} MiB at rest, ${toMib(after)} MiB after the load (with the NSM)`,
    );
    await measureFlood(ports.attested);
    print(`attestation: memory ${toMib(await askMemory(child))} MiB after the handshakes`);
    await measureClient(ports);
  } finally {
    child.disconnect();
    await once(child, "exit");
  }
}

async function compare(
  what: string,
  { attested, bare }: BenchPorts,
  options: { readonly keepAlive: boolean; readonly maxSockets?: number; readonly maxCachedSessions?: number },
): Promise<void> {
  const peer = await measure(bare, new Agent({ ...options, rejectUnauthorized: false }));
  const ours = await measure(attested, new Agent({ ...options, rejectUnauthorized: false }));
  const ratio = (ours.perSecond / peer.perSecond).toFixed(2);
  print(`attestation: ${what}: bare route with one ES384 signature ${describe(peer)}`);
  print(`attestation: ${what}: documents ${describe(ours)}, ratio ${ratio}`);
}

async function measure(port: number, agent: Agent): Promise<Figures> {
  await ask(port, agent);
  const takenMs: number[] = [];
  const startMs = performance.now();
  const endMs = startMs + SECONDS * 1000;
  const lane = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const fromMs = performance.now();
      await ask(port, agent);
      takenMs.push(performance.now() - fromMs);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  const seconds = (performance.now() - startMs) / 1000;
  agent.destroy();
  takenMs.sort((a, b) => a - b);
  const at = (part: number): number => takenMs[Math.floor(takenMs.length * part)] ?? Number.NaN;
  return { perSecond: takenMs.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
}

async function ask(port: number, agent: Agent): Promise<void> {
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(BODY) };
  const sent = request({ host: "127.0.0.1", port, path: "/v1/attestation", method: "POST", agent, headers });
  sent.end(BODY);
  const [response] = await once(sent, "response");
  const answer = await text(response);
  if (response.statusCode !== 200) throw new Error(`${response.statusCode}: ${answer}`);
}

/** All at once, each with a request. */
async function measureFlood(port: number): Promise<void> {
  const agent = new Agent({ keepAlive: false, maxCachedSessions: 0, rejectUnauthorized: false });
  const startMs = performance.now();
  const asked = Array.from({ length: HANDSHAKES }, async () => await ask(port, agent));
  const served = (await Promise.allSettled(asked)).filter(({ status }) => status === "fulfilled").length;
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  print(`attestation: ${HANDSHAKES} handshakes at once: ${served} served in ${seconds} s`);
}

/** What a client of ours pays that verifies each connection before it speaks. */
async function measureClient({ attested, rootSha256 }: BenchPorts): Promise<void> {
  const count = 100;
  const startMs = performance.now();
  for (let index = 0; index < count; index += 1) {
    const response = await attestedFetch(`https://127.0.0.1:${attested}/v1/health`, { roots: [rootSha256] });
    await response.text();
  }
  const eachMs = (performance.now() - startMs) / count;
  print(`attestation: attestedFetch with a new agent each ${eachMs.toFixed(1)} ms (whole chain verified)`);
}

async function askMemory(child: ChildProcess): Promise<number> {
  child.send("memory");
  return (await receive<{ readonly rssBytes: number }>(child)).rssBytes;
}

async function receive<T>(child: ChildProcess): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  child.once("message", (message: T) => resolve(message));
  child.once("exit", () => reject(new Error("the process ended")));
  return await promise;
}

function describe({ perSecond, p50Ms, p99Ms }: Figures): string {
  return `${perSecond.toFixed(0)}/s, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
}

function toMib(sizeBytes: number): string {
  return (sizeBytes / MIB).toFixed(0);
}
