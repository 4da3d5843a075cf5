import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { NsmClient } from "../../attest/nsm/nsm-client.ts";
import { type DevelopmentAuthority, openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { DevelopmentNsm } from "../../dev/development-nsm.ts";

/** An authority that is gone with the process: its files are removed at once. */
export async function openPassingAuthority(): Promise<DevelopmentAuthority> {
  const directory = await mkdtemp(join(tmpdir(), "authority-"));
  try {
    return await openDevelopmentAuthority({ directory: join(directory, "ca"), nowMs: () => Date.now() });
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** A module of its own, so certificates of its own below the root. */
export async function makeDocument(
  authority: DevelopmentAuthority,
  form: "definite" | "indefinite",
): Promise<Uint8Array> {
  const measurements = new Map([0, 1, 2].map((index) => [index, new Uint8Array(48).fill(index + 1)]));
  const nsm = new DevelopmentNsm({
    authority,
    measurements,
    moduleId: "i-0123456789abcdef0-enc0123456789abcdef",
    nowMs: () => Date.now(),
    form,
  });
  const client = new NsmClient({
    name: "development",
    rootSha256: authority.rootSha256,
    exchange: async (request) => await nsm.handle(request),
    [Symbol.asyncDispose]: async () => undefined,
  });
  const fields = {
    userData: new Uint8Array(34),
    nonce: new Uint8Array(32),
    publicKey: new Uint8Array(120).fill(1),
  };
  return await client.attest(fields, AbortSignal.timeout(10_000));
}
