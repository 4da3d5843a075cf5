/** Drives the real command line, as a user would, with a state directory of its own. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";

import type { EnclaveStatus } from "../../wire/control.ts";
import { EnclaveStatusSchema } from "../../wire/control-schemas.ts";

export const ROOT = join(import.meta.dirname, "..", "..");
const COMMAND_TIMEOUT_MS = 240_000;

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Words put before the command, for example setpriv with its arguments. */
  readonly prefix?: readonly string[];
  /** Directory that holds bin/, dist/ and native/build. */
  readonly install?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Node's executable; the one that runs the tests unless told. */
  readonly node?: string;
}

export const StatusJson = z.object({
  name: z.string(),
  state: z.string(),
  backend: z.string(),
  mode: z.string(),
  attestation: z.string(),
  isolated: z.boolean().nullable(),
  runner: z.object({ pid: z.number().nullable() }),
  reason: z.string().nullable(),
  ports: z.array(z.object({ hostAddress: z.string(), hostPort: z.number(), servicePort: z.number() })),
  services: z.array(
    z.object({
      name: z.string(),
      state: z.string(),
      pid: z.number().nullable(),
      restarts: z.number(),
      health: z.string(),
      reason: z.string().nullable(),
      limits: z.array(z.object({ name: z.string(), enforced: z.boolean(), why: z.string().nullable() })),
    }),
  ),
});
export type Status = z.infer<typeof StatusJson>;

export class Testbed implements AsyncDisposable {
  readonly stateDir: string;
  readonly options: RunOptions;

  constructor(stateDir: string, options: RunOptions) {
    this.stateDir = stateDir;
    this.options = options;
  }

  /** The command line that runs `pipeline` with this testbed's state. */
  commandLine(words: readonly string[], name = "pipeline"): [string, ...string[]] {
    const program = join(this.options.install ?? ROOT, "bin", `${name}.js`);
    const node = this.options.node ?? process.execPath;
    const [first, ...rest] = [...(this.options.prefix ?? []), node];
    return [first, ...rest, program, "--state-dir", this.stateDir, ...words];
  }

  async run(...words: string[]): Promise<CommandResult> {
    return await runCommand(this.commandLine(words), this.options.environment);
  }

  /** Runs a command that must succeed. */
  async succeed(...words: string[]): Promise<string> {
    const result = await this.run(...words);
    if (result.status === 0) return result.stdout;
    throw new Error(`pipeline ${words.join(" ")}: exit ${result.status}\n${result.stdout}\n${result.stderr}`);
  }

  async runInitctl(...words: string[]): Promise<CommandResult> {
    return await runCommand(this.commandLine(words, "initctl"), this.options.environment);
  }

  /** Output of an `initctl` that must succeed. */
  async initctl(...words: string[]): Promise<string> {
    const result = await this.runInitctl(...words);
    if (result.status === 0) return result.stdout;
    throw new Error(`initctl ${words.join(" ")}: exit ${result.status}\n${result.stdout}\n${result.stderr}`);
  }

  /** What the enclave itself tells, without the way over its runner's record. */
  async initctlStatus(name: string): Promise<EnclaveStatus> {
    return EnclaveStatusSchema.parse(JSON.parse(await this.initctl("status", "--enclave", name, "--json")));
  }

  async status(name: string): Promise<Status> {
    return StatusJson.parse(JSON.parse(await this.succeed("status", name, "--json")));
  }

  /** `ps --all` as one status a record. */
  async ps(): Promise<Status[]> {
    return z.array(StatusJson).parse(JSON.parse(await this.succeed("ps", "--all", "--json")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const down = await this.run("down", "--all");
    await rm(this.stateDir, { recursive: true, force: true });
    if (down.status !== 0) throw new Error(`down --all: exit ${down.status}\n${down.stderr}`);
  }
}

export async function openTestbed(options: RunOptions = {}): Promise<Testbed> {
  return new Testbed(await mkdtemp(join(tmpdir(), "pl-")), options);
}

export function runCommand(
  [program, ...words]: readonly [string, ...string[]],
  environment: Readonly<Record<string, string>> = {},
  timeoutMs = COMMAND_TIMEOUT_MS,
): Promise<CommandResult> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  const child = spawn(program, words, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment },
    timeout: timeoutMs,
  });
  const text = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (text.stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (text.stderr += chunk));
  child.once("error", reject);
  child.once("close", (status) => resolve({ status, ...text }));
  return promise;
}

/** Body of a GET on a published port. */
export function fetchText(port: number, path = "/"): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const request = get({ host: "127.0.0.1", port, path, agent: false, timeout: 10_000 }, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    response.once("end", () => resolve(body));
    response.once("error", reject);
  });
  request.once("timeout", () => request.destroy(new Error("no answer in 10 s")));
  request.once("error", reject);
  return promise;
}

/** Asks again until `check` gives a value; the wait has a deadline. */
export async function waitFor<T>(
  what: string,
  check: () => Promise<T | undefined>,
  timeoutMs = 15_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** True while a process of that id exists and is no zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  return stat !== undefined && !/^\d+ \(.*\) [ZX]/s.test(stat);
}
