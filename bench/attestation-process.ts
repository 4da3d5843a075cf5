/**
 * What bench/attestation-server.ts measures, as a process of its own: an attestation server whose development NSM answers
 * over a Unix socket, and a bare fastify route over HTTPS that makes one ES384 signature. Speaks IPC with its parent.
 */
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { fastify } from "fastify";

import { openDevelopmentProvider } from "../attest/nsm/development-provider.ts";
import { createLog } from "../core/log.ts";
import { openDevelopmentAuthority } from "../dev/development-authority.ts";
import { DevelopmentNsm } from "../dev/development-nsm.ts";
import { serveDevelopmentNsm } from "../dev/nsm-server.ts";
import { runAttestationServer } from "../ra-server/attestation-server.ts";
import { createTlsKey, issueIdentity } from "../ra-server/tls-identity.ts";

export interface BenchPorts {
  readonly attested: number;
  readonly bare: number;
  readonly rootSha256: string;
}

const HOUR_MS = 3_600_000;
const DIGEST_BYTES = 48;
const PLENTY = { perSecond: 1e9, burst: 1e9 };

const directory = await mkdtemp(join(tmpdir(), "attestation-bench-"));
const stop = new AbortController();
const authority = await openDevelopmentAuthority({ directory: join(directory, "ca"), nowMs: Date.now });
const nsmSocket = await serveNsm();
const ports: BenchPorts = {
  attested: await serveAttestation(),
  bare: await serveBare(),
  rootSha256: authority.rootSha256,
};
process.send?.(ports);
process.on("message", () => {
  globalThis.gc?.();
  process.send?.({ rssBytes: process.memoryUsage.rss() });
});
process.on("disconnect", () => {
  stop.abort();
  void rm(directory, { recursive: true, force: true }).then(() => process.exit(0));
});

async function serveNsm(): Promise<string> {
  const nsm = new DevelopmentNsm({
    authority,
    measurements: new Map([0, 1, 2].map((index) => [index, new Uint8Array(DIGEST_BYTES).fill(1)])),
    moduleId: "i-0123456789abcdef0-enc0123456789abcdef",
    nowMs: Date.now,
    form: "definite",
  });
  const path = join(directory, "nsm.sock");
  const server = createServer(serveDevelopmentNsm({ nsm: async () => nsm, signal: stop.signal })).listen(
    path,
  );
  await once(server, "listening");
  return path;
}

async function serveAttestation(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  void runAttestationServer({
    settings: {
      name: "bench",
      mode: "development",
      provider: "development",
      clientCa: null,
      image: { toolkit: "0", config: "0".repeat(64), lock: null },
    },
    provider: async () =>
      openDevelopmentProvider({
        dial: async (signal) => {
          const socket = connect(nsmSocket);
          await once(socket, "connect", { signal });
          return socket;
        },
      }),
    listen: async (onConnection) => {
      const server = createServer({ allowHalfOpen: true }, onConnection).listen(0, "127.0.0.1");
      await once(server, "listening");
      resolve(portOf(server));
      return { [Symbol.asyncDispose]: async () => void server.close() };
    },
    report: () => undefined,
    nowMs: Date.now,
    log: createLog({ write: () => undefined, now: Date.now }),
    stop: stop.signal,
    rates: { connection: PLENTY, all: PLENTY, attestation: PLENTY, verify: PLENTY },
  });
  return await promise;
}

/** The same kind of certificate, without a document. */
async function serveBare(): Promise<number> {
  const validity = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + 24 * HOUR_MS };
  const https = await issueIdentity(await createTlsKey(), { name: "bench", ...validity });
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const bare = fastify({ logger: false, https: { ...https, minVersion: "TLSv1.3" } });
  bare.post("/v1/attestation", (request) => {
    const content = Buffer.from(JSON.stringify(request.body));
    return {
      document: sign("sha384", content, { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64"),
    };
  });
  await bare.listen({ host: "127.0.0.1", port: 0 });
  return portOf(bare.server);
}

function portOf(server: Pick<Server, "address">): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new Error("listens on no port");
  return address.port;
}
