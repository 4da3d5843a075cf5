/**
 * nitro-cli, the program that starts and ends enclaves on the hardware. It prints progress on stderr and JSON on stdout;
 * a refusal is a status of its own and lines `[ Exx ] ...` on stderr (nitro-errors.ts). `run-enclave` leaves a process
 * behind that owns the enclave: killing nitro-cli ends no enclave. Keys of the JSON that are not named here are ignored.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { z } from "zod";

import { KitError } from "../../../core/errors.ts";
import { firstLines, nitroRefusal } from "./nitro-errors.ts";
import { commandOf, type ProgramRun, runProgram } from "./run-program.ts";

export interface NitroCliOptions {
  /** Absolute path. */
  readonly program: string;
  /** All that it gets of an environment; NITRO_CLI_SOCKETS_PATH and NITRO_CLI_LOGS_PATH move its files. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface LaunchRequest {
  readonly eifPath: string;
  /** Of these CPUs, or as many as told from the pool. */
  readonly cpus: { readonly ids: readonly number[] } | { readonly count: number };
  readonly memoryMib: number;
  /** The hypervisor chooses one if undefined. */
  readonly cid: number | undefined;
  readonly name: string;
  readonly debug: boolean;
  /** The image has to have booted within it. */
  readonly timeoutMs: number;
}

/** `i-0123456789abcdef0-enc0123456789abcdef`; it becomes a word of command lines. */
const EnclaveId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,127}$/);
const Count = z.number().int().min(0).max(1_000_000_000);

const LaunchedSchema = z.object({
  EnclaveName: z.string().max(512).optional(),
  EnclaveID: EnclaveId,
  ProcessID: Count,
  EnclaveCID: z.number().int().min(4).max(0xffff_fffe),
  NumberOfCPUs: Count,
  CPUIDs: z.array(Count).max(4096),
  MemoryMiB: Count,
});

const DescribedSchema = LaunchedSchema.extend({
  /** One that is not up yet has none. */
  EnclaveCID: z.number().int().min(0).max(0xffff_fffe),
  State: z.enum(["EMPTY", "RUNNING", "TERMINATING"]),
  Flags: z.string().max(512),
});

const TerminatedSchema = z.object({ EnclaveID: EnclaveId, Terminated: z.boolean() });

type LaunchedEnclave = z.output<typeof LaunchedSchema>;
export type DescribedEnclave = z.output<typeof DescribedSchema>;

const DESCRIBE_TIMEOUT_MS = 20_000;
const TERMINATE_TIMEOUT_MS = 30_000;
const VERSION_TIMEOUT_MS = 5_000;

export class NitroCli {
  readonly program: string;
  readonly #environment: Readonly<Record<string, string>>;

  constructor({ program, environment = {} }: NitroCliOptions) {
    this.program = program;
    this.#environment = environment;
  }

  /** Starts an enclave and waits until it has booted. @throws E_NITRO_*, E_DEADLINE, the reason of the signal */
  async runEnclave(request: LaunchRequest, signal: AbortSignal): Promise<LaunchedEnclave> {
    const run = this.#run(launchWords(request), request.timeoutMs, signal);
    return await this.#ask(run, LaunchedSchema);
  }

  /** All enclaves of this machine, those of other users too. @throws E_NITRO_*, E_DEADLINE, the reason of the signal */
  async describeEnclaves(signal: AbortSignal): Promise<DescribedEnclave[]> {
    const run = this.#run(["describe-enclaves"], DESCRIBE_TIMEOUT_MS, signal);
    return await this.#ask(run, z.array(DescribedSchema).max(1024));
  }

  /** @throws E_NITRO_*, E_DEADLINE, the reason of the signal */
  async terminateEnclave(id: string, signal: AbortSignal): Promise<void> {
    const run = this.#run(["terminate-enclave", "--enclave-id", id], TERMINATE_TIMEOUT_MS, signal);
    const answer = await this.#ask(run, TerminatedSchema);
    if (answer.Terminated && answer.EnclaveID === id) return;
    throw new KitError("E_NITRO_CLI", `nitro-cli terminate-enclave did not terminate ${id}`);
  }

  /** First line of --version. @throws E_NITRO_*, E_DEADLINE, the reason of the signal */
  async version(signal: AbortSignal): Promise<string> {
    const run = this.#run(["--version"], VERSION_TIMEOUT_MS, signal);
    const { status, stdout, stderr } = await runProgram(run);
    if (status !== 0) throw nitroRefusal("--version", status, stderr);
    return firstLines(stdout, 1);
  }

  /** A process with the console on its stdout, of an enclave in debug mode. Whoever opens it ends it. */
  openConsole(id: string): ChildProcess {
    return spawn(this.program, ["console", "--enclave-id", id], {
      env: { ...this.#environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  #run(words: readonly string[], timeoutMs: number, signal: AbortSignal): ProgramRun {
    return { program: this.program, words, environment: this.#environment, timeoutMs, signal };
  }

  async #ask<T>(run: ProgramRun, schema: z.ZodType<T>): Promise<T> {
    const { status, stdout, stderr } = await runProgram(run);
    if (status !== 0) throw nitroRefusal(run.words[0] ?? "", status, stderr);
    const answer = schema.safeParse(parseJson(run, stdout));
    if (answer.success) return answer.data;
    const [issue] = answer.error.issues;
    const where = issue === undefined ? "" : `${issue.path.map(String).join(".")}: ${issue.message}`;
    throw notUnderstood(run, stdout, where);
  }
}

function launchWords({ eifPath, cpus, memoryMib, cid, name, debug }: LaunchRequest): string[] {
  return [
    "run-enclave",
    "--eif-path",
    eifPath,
    ...("ids" in cpus ? ["--cpu-ids", ...cpus.ids.map(String)] : ["--cpu-count", String(cpus.count)]),
    "--memory",
    String(memoryMib),
    ...(cid === undefined ? [] : ["--enclave-cid", String(cid)]),
    "--enclave-name",
    name,
    ...(debug ? ["--debug-mode"] : []),
  ];
}

function parseJson(run: ProgramRun, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw notUnderstood(run, text, error instanceof Error ? error.message : "no JSON");
  }
}

function notUnderstood(run: ProgramRun, stdout: string, why: string): KitError {
  const said = stdout.trim() === "" ? "nothing" : JSON.stringify(firstLines(stdout, 3));
  return new KitError("E_NITRO_OUTPUT", `${commandOf(run)} printed ${said}: ${firstLines(why, 1)}`);
}
