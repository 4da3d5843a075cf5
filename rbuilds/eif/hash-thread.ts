/** The writer's side of the hashing thread (hash-messages.ts). */
import { Worker } from "node:worker_threads";

import { KitError } from "../../core/errors.ts";
import type { HashAnswer, HashBlock, HasherData, HashRequest, OtherDigests } from "./hash-messages.ts";

interface Waiting {
  readonly resolve: (answer: HashAnswer) => void;
  readonly reject: (error: unknown) => void;
}

export class HashThread implements AsyncDisposable {
  readonly #worker: Worker;
  /** In the order of the requests. */
  readonly #waiting: Waiting[] = [];
  #failure: KitError | undefined;

  /** @param program dist/eif-hasher.js, or the source of it */
  constructor(program: string, data: HasherData) {
    this.#worker = new Worker(program, { workerData: data, env: {}, execArgv: [] });
    this.#worker.on("message", (answer: HashAnswer) => this.#waiting.shift()?.resolve(answer));
    this.#worker.on("error", (cause) => this.#fail("the hashing thread failed", cause));
    this.#worker.on("exit", () => this.#fail("the hashing thread ended too early"));
  }

  /** Returns when the thread is done with the block. */
  async update(block: HashBlock): Promise<void> {
    await this.#ask(block);
  }

  async digests(): Promise<OtherDigests> {
    const answer = await this.#ask("end");
    if (answer === "done") throw new KitError("E_INTERNAL", "the hashing thread gave no digests");
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }

  async #ask(request: HashRequest): Promise<HashAnswer> {
    if (this.#failure !== undefined) throw this.#failure;
    const { promise, resolve, reject } = Promise.withResolvers<HashAnswer>();
    this.#waiting.push({ resolve, reject });
    this.#worker.postMessage(request);
    return await promise;
  }

  #fail(message: string, cause?: unknown): void {
    this.#failure ??= new KitError("E_INTERNAL", message, { cause });
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}
