/**
 * What is hashed into what, as data: so that one half can be done by another thread. A step's bytes go, in order, into
 * all of its digests.
 */
import { createHash, type Hash } from "node:crypto";
import { open } from "node:fs/promises";

import { isErrno, KitError } from "../../core/errors.ts";

export interface HashStep {
  /** Bytes, or a whole file. */
  readonly source: Uint8Array | { readonly path: string; readonly sizeBytes: number };
  /** Names of digests of the plan. */
  readonly into: readonly string[];
}

export interface HashPlan {
  /** Algorithm by name of the digest. */
  readonly digests: Readonly<Record<string, "sha256" | "sha384">>;
  readonly steps: readonly HashStep[];
}

/** Large enough that the thread is busy hashing and not asking for more. */
export const BLOCK_BYTES = 1024 * 1024;

/** Digests in lower-case hex, by name. @throws E_EIF_SOURCE_CHANGED */
export async function runHashPlan(plan: HashPlan, signal?: AbortSignal): Promise<Record<string, string>> {
  const hashes = new Map(
    Object.entries(plan.digests).map(([name, algorithm]) => [name, createHash(algorithm)]),
  );
  for (const { source, into } of plan.steps) {
    const targets = into.flatMap((name) => hashes.get(name) ?? []);
    if (source instanceof Uint8Array) update(targets, source);
    else for await (const block of readWhole(source, signal)) update(targets, block);
  }
  return Object.fromEntries([...hashes].map(([name, hash]) => [name, hash.digest("hex")]));
}

function update(hashes: readonly Hash[], bytes: Uint8Array): void {
  for (const hash of hashes) hash.update(bytes);
}

/**
 * The blocks of a file; each is overwritten by the next.
 * @throws E_EIF_SOURCE_CHANGED if the file has another size
 */
export async function* readWhole(
  { path, sizeBytes }: { readonly path: string; readonly sizeBytes: number },
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  await using file = await open(path).catch((cause: unknown) => {
    throw isErrno(cause) ? changed(path, `cannot be read: ${cause.code}`, cause) : cause;
  });
  const buffer = Buffer.allocUnsafe(BLOCK_BYTES);
  let done = 0;
  for (;;) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, BLOCK_BYTES, done);
    if (bytesRead === 0) break;
    done += bytesRead;
    if (done > sizeBytes) break;
    yield buffer.subarray(0, bytesRead);
  }
  if (done !== sizeBytes) throw changed(path, `has not ${sizeBytes} bytes any more`);
}

export function changed(path: string, why: string, cause?: unknown): KitError {
  return new KitError("E_EIF_SOURCE_CHANGED", `${path} ${why}`, { cause });
}
