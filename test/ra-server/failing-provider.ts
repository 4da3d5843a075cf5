/** A provider of documents that can be taken away and given back. */
import type { NsmProvider } from "../../attest/nsm/nsm-provider.ts";
import { KitError } from "../../core/errors.ts";

export class FailingProvider implements NsmProvider {
  readonly name = "development";
  readonly rootSha256 = null;
  readonly #open: () => NsmProvider;
  #inner: NsmProvider | undefined;
  #isBroken: boolean;
  /** Requests that failed. */
  refused = 0;

  constructor(open: () => NsmProvider, isBroken: boolean) {
    this.#open = open;
    this.#isBroken = isBroken;
  }

  breakDown(): void {
    this.#isBroken = true;
  }

  recover(): void {
    this.#isBroken = false;
  }

  async exchange(request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    if (this.#isBroken) {
      this.refused += 1;
      throw new KitError("E_NSM_NO_DEVICE", "this machine has no Nitro Security Module: /dev/nsm (ENOENT)");
    }
    this.#inner ??= this.#open();
    return await this.#inner.exchange(request, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner?.[Symbol.asyncDispose]();
  }
}
