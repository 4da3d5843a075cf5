/** The Nitro Security Module of the machine, through /dev/nsm and its one ioctl. */
import { type FileHandle, open } from "node:fs/promises";
import { constants } from "node:fs";

import { isErrno, KitError } from "../../core/errors.ts";
import type { NativeAddon } from "../../native/addon.ts";
import { NSM_REQUEST_MAX_BYTES } from "../../wire/nsm/nsm-limits.ts";
import { AWS_ROOT_SHA256 } from "../verify/aws-root.ts";
import type { NsmProvider } from "./nsm-provider.ts";

export interface DeviceProviderOptions {
  readonly addon: Pick<NativeAddon, "nsmRequest">;
  /** /dev/nsm */
  readonly path: string;
}

/** What says that there is no module, not that this process may not use it. */
const ABSENT = ["ENOENT", "ENXIO", "ENODEV", "ENOTDIR"];

/**
 * Opens the device, which is held until the provider is disposed.
 * @throws E_NSM_NO_DEVICE this machine has none; E_NSM_ACCESS this process may not open it; E_NSM_TRANSPORT
 */
export async function openDeviceProvider({ addon, path }: DeviceProviderOptions): Promise<NsmProvider> {
  return new DeviceProvider(addon, path, await openDevice(path));
}

async function openDevice(path: string): Promise<FileHandle> {
  try {
    // Node opens everything with O_CLOEXEC.
    return await open(path, constants.O_RDWR);
  } catch (error) {
    throw explain(path, error);
  }
}

function explain(path: string, cause: unknown): KitError {
  const number = isErrno(cause) ? (cause.code ?? "") : "";
  if (ABSENT.includes(number)) {
    const message = `this machine has no Nitro Security Module: ${path} (${number})`;
    return new KitError("E_NSM_NO_DEVICE", message, { cause });
  }
  if (number === "EACCES" || number === "EPERM") {
    return new KitError("E_NSM_ACCESS", `${path} is not for this process (${number})`, { cause });
  }
  return new KitError("E_NSM_TRANSPORT", `${path}: ${number === "" ? String(cause) : number}`, { cause });
}

class DeviceProvider implements NsmProvider {
  readonly name = "nitro";
  readonly rootSha256 = AWS_ROOT_SHA256;
  readonly #addon: DeviceProviderOptions["addon"];
  readonly #path: string;
  readonly #file: FileHandle;
  /** Settles when the request before the next one has its answer; never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(addon: DeviceProviderOptions["addon"], path: string, file: FileHandle) {
    this.#addon = addon;
    this.#path = path;
    this.#file = file;
  }

  async exchange(request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    signal.throwIfAborted();
    if (request.length > NSM_REQUEST_MAX_BYTES) {
      const message = `a request of ${request.length} bytes; the device takes ${NSM_REQUEST_MAX_BYTES}`;
      throw new KitError("E_NSM_REQUEST_SIZE", message);
    }
    // The driver would make them wait too, but each on a thread of the pool that others need.
    const answer = this.#last.then(async () => await this.#ask(request, signal));
    this.#last = answer.catch(() => undefined);
    return await untilAborted(answer, signal);
  }

  async #ask(request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    signal.throwIfAborted();
    if (this.#isClosed) throw new KitError("E_NSM_TRANSPORT", `${this.#path} is closed`);
    try {
      return await this.#addon.nsmRequest(this.#file.fd, request);
    } catch (error) {
      throw explain(this.#path, error);
    }
  }

  /** Waits for the request that is with the device: its thread still uses the descriptor. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#last;
    await this.#file.close();
  }
}

/** The device cannot be told to stop; the caller just does not wait any longer. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
