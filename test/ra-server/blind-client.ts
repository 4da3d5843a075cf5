/** A client of the attestation API that believes everything, for what is served without proof. */
import { Agent, fetch } from "undici";
import type { z } from "zod";

import { ProblemSchema } from "../../wire/attestation-api.ts";

export interface BlindAnswer {
  readonly status: number;
  readonly type: string;
  readonly headers: { get(name: string): string | null };
  readonly text: string;
}

export interface BlindIdentity {
  readonly cert: string;
  readonly key: string;
}

export class BlindClient implements AsyncDisposable {
  readonly #url: string;
  readonly #agent: Agent;

  constructor(url: string, identity?: BlindIdentity) {
    this.#url = url;
    this.#agent = new Agent({ connect: { rejectUnauthorized: false, ...identity }, connections: 1 });
  }

  async get(path: string): Promise<BlindAnswer> {
    return await this.#ask(path, {});
  }

  async post(path: string, body: unknown): Promise<BlindAnswer> {
    return await this.send(path, JSON.stringify(body));
  }

  async send(path: string, body: string | Buffer, type = "application/json"): Promise<BlindAnswer> {
    return await this.#ask(path, { method: "POST", headers: { "content-type": type }, body });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  async #ask(
    path: string,
    init: { method?: string; headers?: Record<string, string>; body?: string | Buffer },
  ): Promise<BlindAnswer> {
    const signal = AbortSignal.timeout(30_000);
    const response = await fetch(`${this.#url}${path}`, { ...init, dispatcher: this.#agent, signal });
    const { status, headers } = response;
    return { status, type: headers.get("content-type") ?? "", headers, text: await response.text() };
  }
}

/** An answer by the schema of its route. */
export function readAnswer<T>({ status, text }: BlindAnswer, schema: z.ZodType<T>): T {
  if (status !== 200) throw new Error(`${status}: ${text}`);
  return schema.parse(JSON.parse(text));
}

/** Status and code of a refusal, which has to be problem+json. */
export function readProblem(answer: BlindAnswer): { readonly status: number; readonly code: string } {
  if (answer.type !== "application/problem+json") throw new Error(`${answer.type}: ${answer.text}`);
  const problem = ProblemSchema.parse(JSON.parse(answer.text));
  if (problem.status !== answer.status) throw new Error(`${problem.status} is not ${answer.status}`);
  return { status: answer.status, code: problem.code };
}
