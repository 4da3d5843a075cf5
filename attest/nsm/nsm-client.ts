/** The requests of the Nitro Security Module, typed: limits are checked before anything is sent, answers after they came. */
import { createHash } from "node:crypto";

import { KitError } from "../../core/errors.ts";
import type { ErrorCode } from "../../core/error-table.ts";
import {
  NSM_FIELD_MAX_BYTES,
  NSM_REGISTER_BYTES,
  NSM_REGISTERS,
  NSM_REQUEST_MAX_BYTES,
} from "../../wire/nsm/nsm-limits.ts";
import { encodeNsmRequest, type NsmRequest, type NsmRequestKind } from "../../wire/nsm/nsm-requests.ts";
import {
  decodeNsmResponse,
  isNsmRefusal,
  type NsmContent,
  type NsmDescription,
  type NsmErrorName,
} from "../../wire/nsm/nsm-responses.ts";
import type { NsmProvider } from "./nsm-provider.ts";

export interface DocumentRequest {
  /** 1 to 1024 bytes. Only ever a key that this process made. */
  readonly publicKey?: Uint8Array;
  /** Up to 1024 bytes. */
  readonly userData?: Uint8Array;
  /** Up to 1024 bytes. */
  readonly nonce?: Uint8Array;
}

export const MAX_RANDOM_BYTES = 64 * 1024;
/** The device gives 256 bytes; a few would be the same again by chance. */
const MIN_BLOCK_BYTES = 32;

const CODES: Readonly<Record<NsmErrorName, ErrorCode>> = {
  InvalidArgument: "E_NSM_INVALID_ARGUMENT",
  InvalidIndex: "E_NSM_INVALID_INDEX",
  InvalidResponse: "E_NSM_INVALID_RESPONSE",
  ReadOnlyIndex: "E_NSM_READ_ONLY_INDEX",
  InvalidOperation: "E_NSM_INVALID_OPERATION",
  BufferTooSmall: "E_NSM_BUFFER_TOO_SMALL",
  InputTooLarge: "E_NSM_INPUT_TOO_LARGE",
  InternalError: "E_NSM_INTERNAL_ERROR",
};

/**
 * Every method throws what the provider throws, the code of the NSM's own error (E_NSM_INVALID_INDEX and so on, also
 * where the limit is known here and nothing was sent), and E_NSM_RESPONSE for an answer of a wrong shape.
 * The provider is the caller's.
 */
export class NsmClient {
  readonly #provider: NsmProvider;
  /** SHA-256 of the last random block: the next one differs. */
  #lastRandom = "";

  constructor(provider: NsmProvider) {
    this.#provider = provider;
  }

  async describe(signal: AbortSignal): Promise<NsmDescription> {
    return checkDescription(await this.#ask({ kind: "DescribeNSM" }, signal));
  }

  /** @param index 0 to 31. @returns 48 bytes, and whether they can still change */
  async describePcr(index: number, signal: AbortSignal): Promise<{ lock: boolean; data: Uint8Array }> {
    checkIndex(index);
    const { lock, data } = await this.#ask({ kind: "DescribePCR", index }, signal);
    return { lock, data: checkRegister(data) };
  }

  /**
   * @param data is not hashed before: the register becomes SHA384(register || data)
   * @returns the new value
   * @throws E_NSM_READ_ONLY_INDEX for 0 to 15, and what was locked since; E_NSM_REQUEST_SIZE
   */
  async extendPcr(index: number, data: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    checkIndex(index);
    return checkRegister((await this.#ask({ kind: "ExtendPCR", index, data }, signal)).data);
  }

  /** Documents show a register once it is locked. @throws E_NSM_READ_ONLY_INDEX where it already is */
  async lockPcr(index: number, signal: AbortSignal): Promise<void> {
    checkIndex(index);
    await this.#ask({ kind: "LockPCR", index }, signal);
  }

  /** Locks registers 0 to `range` - 1, also where they are. */
  async lockPcrs(range: number, signal: AbortSignal): Promise<void> {
    if (!Number.isInteger(range) || range < 0 || range > NSM_REGISTERS) throw invalidIndex(range);
    await this.#ask({ kind: "LockPCRs", range }, signal);
  }

  /**
   * @param sizeBytes at most MAX_RANDOM_BYTES; every 256 of them are a request
   * @throws RangeError; E_NSM_RESPONSE for bytes that came before
   */
  async random(sizeBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    if (!Number.isInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > MAX_RANDOM_BYTES)
      throw new RangeError(`${sizeBytes} random bytes: 0 to ${MAX_RANDOM_BYTES} can be had at once`);
    const seen = new Set<string>([this.#lastRandom]);
    const bytes = new Uint8Array(sizeBytes);
    for (let filled = 0; filled < sizeBytes;) {
      const { random } = await this.#ask({ kind: "GetRandom" }, signal);
      this.#lastRandom = checkRandom(random, seen);
      bytes.set(random.subarray(0, sizeBytes - filled), filled);
      filled += random.length;
    }
    return bytes;
  }

  /** @returns a document that nobody verified. @throws E_NSM_INPUT_TOO_LARGE, E_NSM_INVALID_ARGUMENT */
  async attest(request: DocumentRequest, signal: AbortSignal): Promise<Uint8Array> {
    const { publicKey = null, userData = null, nonce = null } = request;
    const fields = { publicKey, userData, nonce };
    for (const [name, value] of Object.entries(fields)) checkField(name, value);
    if (publicKey?.length === 0)
      throw new KitError("E_NSM_INVALID_ARGUMENT", "publicKey is empty; leave it out where there is none");
    const { document } = await this.#ask({ kind: "Attestation", ...fields }, signal);
    if (document.length === 0) throw wrong("Attestation gave a document of 0 bytes");
    return document;
  }

  async #ask<K extends NsmRequestKind>(
    request: NsmRequest & { readonly kind: K },
    signal: AbortSignal,
  ): Promise<NsmContent[K]> {
    const bytes = encodeNsmRequest(request);
    if (bytes.length > NSM_REQUEST_MAX_BYTES)
      throw new KitError(
        "E_NSM_REQUEST_SIZE",
        `${request.kind} has ${bytes.length} bytes, more than ${NSM_REQUEST_MAX_BYTES}`,
      );
    const response = decodeNsmResponse<K>(await this.#provider.exchange(bytes, signal), request);
    if (isNsmRefusal(response))
      throw new KitError(CODES[response.error], `NSM: ${request.kind}: ${response.error}`);
    return response;
  }
}

function checkIndex(index: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= NSM_REGISTERS) throw invalidIndex(index);
}

function invalidIndex(index: number): KitError {
  return new KitError("E_NSM_INVALID_INDEX", `${index}: there are registers 0 to ${NSM_REGISTERS - 1}`);
}

function checkField(name: string, value: Uint8Array | null): void {
  if (value === null || value.length <= NSM_FIELD_MAX_BYTES) return;
  throw new KitError(
    "E_NSM_INPUT_TOO_LARGE",
    `${name} has ${value.length} bytes, more than ${NSM_FIELD_MAX_BYTES}`,
  );
}

function checkRegister(data: Uint8Array): Uint8Array {
  if (data.length === NSM_REGISTER_BYTES) return data;
  throw wrong(`a register of ${data.length} bytes`);
}

function checkDescription(description: NsmDescription): NsmDescription {
  const { maxPcrs, lockedPcrs, digest } = description;
  if (digest !== "SHA384") throw wrong(`the digest ${JSON.stringify(digest.slice(0, 40))}`);
  if (maxPcrs === 0 || lockedPcrs.some((index) => index >= maxPcrs))
    throw wrong(`${maxPcrs} registers, of which ${lockedPcrs.join(", ")} are locked`);
  return description;
}

/** @returns what to know the block again by */
function checkRandom(block: Uint8Array, seen: Set<string>): string {
  if (block.length < MIN_BLOCK_BYTES) throw wrong(`GetRandom gave ${block.length} bytes`);
  const digest = createHash("sha256").update(block).digest("base64");
  if (seen.has(digest)) throw wrong("GetRandom gave bytes that it gave before");
  seen.add(digest);
  return digest;
}

function wrong(what: string): KitError {
  return new KitError("E_NSM_RESPONSE", `NSM: ${what}`);
}
