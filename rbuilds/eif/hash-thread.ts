/** Carries out a hash plan in a thread of its own. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

import { isErrorCode } from "../../core/error-table.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import type { HashPlan } from "./hash-plan.ts";

export class HashThread implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #ended: Promise<Record<string, string>>;

  /** @param program dist/eif-hasher.js, or the source of it */
  constructor(program: string, plan: HashPlan) {
    this.#worker = new Worker(program, { workerData: plan, env: {}, execArgv: [] });
    this.#ended = this.#await();
    this.#ended.catch(() => undefined); // asked for later
  }

  /** @throws E_EIF_SOURCE_CHANGED, the reason of the signal */
  async digests(signal?: AbortSignal): Promise<Record<string, string>> {
    if (signal === undefined) return await this.#ended;
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(toKitError(signal.reason));
    signal.addEventListener("abort", abort, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([this.#ended, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  async #await(): Promise<Record<string, string>> {
    const exit = once(this.#worker, "exit").then(() => {
      throw new KitError("E_INTERNAL", "the hashing thread ended without a result");
    });
    exit.catch(() => undefined);
    const [message]: readonly unknown[] = await Promise.race([once(this.#worker, "message"), exit]);
    return readMessage(message);
  }
}

function readMessage(message: unknown): Record<string, string> {
  const { digests, error }: Message = typeof message === "object" && message !== null ? message : {};
  if (digests !== undefined) return digests;
  const code = error?.code ?? "";
  throw new KitError(isErrorCode(code) ? code : "E_INTERNAL", error?.message ?? "the hashing thread failed");
}

interface Message {
  readonly digests?: Record<string, string>;
  readonly error?: { readonly code: string; readonly message: string };
}
