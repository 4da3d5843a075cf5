/**
 * A Nitro Security Module without the hardware: its protocol, limits and errors, registers that somebody on this machine
 * measured, documents below a root of this machine. What it says is worth what the machine is.
 */
import { randomBytes } from "node:crypto";

import { KitError } from "../core/errors.ts";
import {
  NSM_FIELD_MAX_BYTES,
  NSM_RANDOM_BYTES,
  NSM_REGISTERS,
  NSM_REQUEST_MAX_BYTES,
} from "../wire/nsm/nsm-limits.ts";
import { type AttestationFields, decodeNsmRequest, type NsmRequest } from "../wire/nsm/nsm-requests.ts";
import { encodeNsmResponse, type NsmAnswer, type NsmRefusal } from "../wire/nsm/nsm-responses.ts";
import { CertificateChain } from "./certificate-chain.ts";
import type { DevelopmentAuthority } from "./development-authority.ts";
import { type DocumentForm, signDocument } from "./document-signer.ts";
import { NsmRefused } from "./nsm-refused.ts";
import { RegisterBank } from "./register-bank.ts";

export interface DevelopmentNsmOptions {
  readonly authority: DevelopmentAuthority;
  /** Of registers 0 to 15, 48 bytes each; absent ones are zero. */
  readonly measurements: ReadonlyMap<number, Uint8Array>;
  /** `i-…-enc…`, at most 64 bytes: it is in the names of certificates. */
  readonly moduleId: string;
  readonly nowMs: () => number;
  readonly form: DocumentForm;
}

const VERSION = [1, 0, 0] as const;
const MAX_MODULE_ID_BYTES = 64;

/** Its keys are made here and go with it. */
export class DevelopmentNsm {
  readonly #options: DevelopmentNsmOptions;
  readonly #registers: RegisterBank;
  readonly #chain: CertificateChain;
  #last: Promise<unknown> = Promise.resolve();

  /** @throws RangeError */
  constructor(options: DevelopmentNsmOptions) {
    const { authority, moduleId, nowMs, measurements } = options;
    if (moduleId === "" || Buffer.byteLength(moduleId) > MAX_MODULE_ID_BYTES)
      throw new RangeError(`a module_id of ${Buffer.byteLength(moduleId)} bytes`);
    this.#options = options;
    this.#registers = new RegisterBank(measurements);
    this.#chain = new CertificateChain(authority, moduleId, nowMs);
  }

  /** Answers one request after the other; what is none is answered with an error too, as the device does. */
  async handle(request: Uint8Array): Promise<Uint8Array> {
    const mine = this.#last.then(async () => encodeNsmResponse(await this.#respond(request)));
    this.#last = mine.catch(() => undefined);
    return await mine;
  }

  async #respond(bytes: Uint8Array): Promise<NsmAnswer | NsmRefusal> {
    try {
      if (bytes.length > NSM_REQUEST_MAX_BYTES) throw new NsmRefused("InputTooLarge");
      return await this.#obey(decodeNsmRequest(bytes));
    } catch (error) {
      if (error instanceof NsmRefused) return { kind: "Error", error: error.error };
      if (error instanceof KitError && error.code === "E_NSM_REQUEST")
        return { kind: "Error", error: "InvalidOperation" };
      throw error;
    }
  }

  async #obey(request: NsmRequest): Promise<NsmAnswer> {
    switch (request.kind) {
      case "DescribeNSM":
        return this.#describe();
      case "GetRandom":
        return { kind: request.kind, random: randomBytes(NSM_RANDOM_BYTES) };
      case "DescribePCR":
        return { kind: request.kind, ...this.#registers.describe(request.index) };
      case "ExtendPCR":
        return { kind: request.kind, data: this.#registers.extend(request.index, request.data) };
      case "LockPCR":
        this.#registers.lock(request.index);
        return { kind: request.kind };
      case "LockPCRs":
        this.#registers.lockRange(request.range);
        return { kind: request.kind };
      case "Attestation":
        return { kind: request.kind, document: await this.#attest(request) };
    }
  }

  #describe(): NsmAnswer<"DescribeNSM"> {
    return {
      kind: "DescribeNSM",
      version: VERSION,
      moduleId: this.#options.moduleId,
      maxPcrs: NSM_REGISTERS,
      lockedPcrs: this.#registers.locked().map(([index]) => index),
      digest: "SHA384",
    };
  }

  async #attest({ userData, nonce, publicKey }: AttestationFields): Promise<Uint8Array> {
    for (const field of [userData, nonce, publicKey])
      if (field !== null && field.length > NSM_FIELD_MAX_BYTES) throw new NsmRefused("InputTooLarge");
    if (publicKey?.length === 0) throw new NsmRefused("InvalidArgument");
    const { moduleId, nowMs, form } = this.#options;
    const leaf = await this.#chain.leaf();
    const registers = this.#registers.locked();
    const content = { moduleId, registers, userData, nonce, publicKey, timestampMs: Math.floor(nowMs()) };
    return await signDocument(content, leaf, form);
  }
}
