import { generateKeyPairSync, sign, verify } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { DocumentVerifier } from "../attest/verify/document-verifier.ts";
import { createNodeCrypto } from "../attest/verify/node-crypto.ts";
import { makeDocument, openPassingAuthority } from "../scripts/attestation-fuzz/development-documents.ts";
import { median, print } from "./pipeline-process.ts";

const ROUNDS = 15;
const IN_ROUND = 150;
const CHAINS = 300;
const DOCUMENTS = 100_000;
/** Certificates below the root, and the document. */
const SIGNATURES = 5;

/** Documents verified in a second, beside as many signatures by node:crypto alone. */
export async function measureAttestationVerify(): Promise<void> {
  const authority = await openPassingAuthority();
  const document = await makeDocument(authority, "indefinite");
  const anchor = { roots: [authority.rootSha256], atMs: Date.now() };
  const cached = new DocumentVerifier(createNodeCrypto());
  const raw = rawVerification(document.length);
  const lanes = {
    raw: async () => raw(),
    cached: async () => void (await cached.authenticate(document, anchor)),
    whole: async () => void (await new DocumentVerifier(createNodeCrypto()).authenticate(document, anchor)),
  };
  const rates: Record<keyof typeof lanes, number[]> = { raw: [], cached: [], whole: [] };
  for (const name of ["raw", "cached", "whole"] as const) await measureRate(lanes[name]);
  for (let round = 0; round < ROUNDS; round += 1)
    for (const name of ["raw", "cached", "whole"] as const) rates[name].push(await measureRate(lanes[name]));
  const [rawRate, cachedRate, wholeRate] = [median(rates.raw), median(rates.cached), median(rates.whole)];
  print(`attestation: raw P-384 verifications by node:crypto ${rawRate.toFixed(0)}/s`);
  print(
    `attestation: documents with the chain cached ${cachedRate.toFixed(0)}/s, ratio ${(cachedRate / rawRate).toFixed(2)} (wanted: 0.8)`,
  );
  const fifth = rawRate / SIGNATURES;
  print(
    `attestation: documents with the whole chain ${wholeRate.toFixed(0)}/s, ${(wholeRate / fifth).toFixed(2)} of a fifth of raw (wanted: 0.5)`,
  );
  await measureMemory(authority, anchor);
}

function rawVerification(sizeBytes: number): () => void {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const data = Buffer.alloc(sizeBytes);
  const signature = sign("sha384", data, { key: privateKey, dsaEncoding: "ieee-p1363" });
  return () => {
    if (!verify("sha384", data, { key: publicKey, dsaEncoding: "ieee-p1363" }, signature))
      throw new Error("not verified");
  };
}

async function measureRate(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  for (let count = 0; count < IN_ROUND; count += 1) await work();
  return (IN_ROUND * 1000) / (performance.now() - start);
}

/** More chains than are remembered, then many documents. */
async function measureMemory(
  authority: Awaited<ReturnType<typeof openPassingAuthority>>,
  anchor: { readonly roots: readonly string[]; readonly atMs: number },
): Promise<void> {
  const documents: Uint8Array[] = [];
  for (let count = 0; count < CHAINS; count += 1) documents.push(await makeDocument(authority, "definite"));
  const verifier = new DocumentVerifier(createNodeCrypto());
  const later = { ...anchor, atMs: Date.now() };
  const figures: string[] = [];
  for (let count = 0; count < DOCUMENTS; count += 1) {
    // Of each hundred one has a chain that may have been forgotten.
    const index = count % 100 === 0 ? (count / 100) % CHAINS : count % 50;
    await verifier.authenticate(documents[index] ?? new Uint8Array(), later);
    if ((count + 1) % (DOCUMENTS / 5) === 0) figures.push(`${count + 1}: ${readMemory()}`);
  }
  print(`attestation: memory after documents ${figures.join(", ")}`);
}

function readMemory(): string {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect === "function") collect();
  const { heapUsed, rss } = process.memoryUsage();
  const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
  return `heap ${mib(heapUsed)} MiB, resident ${mib(rss)} MiB`;
}
