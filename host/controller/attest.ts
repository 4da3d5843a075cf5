/**
 * Asks a running enclave for a proof and verifies it here: the registers that it must show are those of the image on this
 * machine, never what it says itself.
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";

import { AWS_ROOT_SHA256 } from "../../attest/verify/aws-root.ts";
import { type AuthenticDocument, DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import type { AttestationPolicy } from "../../attest/verify/attestation-policy.ts";
import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { withDeadline } from "../../core/deadline.ts";
import { openDevelopmentAuthority } from "../../dev/development-authority.ts";
import { readRegisters, type RegisterSource } from "../attestation/image-registers.ts";
import type { RunRequest } from "../runner/run-request.ts";
import { authorityFolder, enclavePaths } from "../state/enclave-paths.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import { requestDocument } from "./attestation-request.ts";
import { dialAttestation } from "./enclave-dialer.ts";
import { inspectEnclave } from "./inspect.ts";

export interface AttestOptions {
  readonly name: string;
  /** Fresh random bytes unless told. */
  readonly nonce?: Uint8Array | undefined;
  /** What the enclave is to say, in a document. */
  readonly statement: Uint8Array;
  /** Registers to compare with; those of the image that was started unless told. */
  readonly registers?: RegisterSource | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

export interface Attested {
  readonly record: EnclaveRecord;
  /** As it came. */
  readonly bytes: Uint8Array;
  readonly document: AuthenticDocument;
  readonly nonce: Uint8Array;
  /** Registers that were compared, lower-case hex. */
  readonly compared: ReadonlyMap<number, string>;
}

const TIMEOUT_MS = 60_000;
const NONCE_BYTES = 32;

/** @throws E_EVIDENCE_*, E_UNMET_*, E_HOST_NOT_FOUND, E_HOST_NOT_RUNNING, E_BACKEND_CONNECT, E_RA_ANSWER */
export async function attestEnclave(stateDir: string, options: AttestOptions): Promise<Attested> {
  const { name, statement, nonce = randomBytes(NONCE_BYTES) } = options;
  const signal = withDeadline(options.signal, TIMEOUT_MS);
  const record = await inspectEnclave(stateDir, name);
  const dial = await dialAttestation(stateDir, name);
  const compared = await readRegisters(options.registers ?? (await startedWith(stateDir, name)), signal);
  const policy: AttestationPolicy = {
    roots: [await rootOf(record, stateDir)],
    measurements: [compared],
  };
  const bytes = await requestDocument({
    dial,
    policy,
    nonce,
    statement,
    signal,
    onProgress: options.onProgress,
  });
  const verifier = new DocumentVerifier(createNodeCrypto());
  const purpose = { name: "statement", data: statement } as const;
  const document = await verifier.verify(bytes, { ...policy, nonce, purpose }, Date.now());
  return { record, bytes, document, nonce, compared };
}

/** The registers of what `up` started. */
async function startedWith(stateDir: string, name: string): Promise<RegisterSource> {
  const request: RunRequest = JSON.parse(await readFile(enclavePaths(stateDir, name).request, "utf8"));
  return request.registers;
}

async function rootOf({ attestation }: EnclaveRecord, stateDir: string): Promise<string> {
  if (attestation === "nitro") return AWS_ROOT_SHA256;
  const directory = authorityFolder(stateDir);
  return (await openDevelopmentAuthority({ directory, nowMs: () => Date.now() })).rootSha256;
}
