/** Real processes behind a filter, by test/fixtures/enclave/seccomp-probe.c. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";

const run = promisify(execFile);
const FIXTURES = join(import.meta.dirname, "..", "fixtures", "enclave");
const DEADLINE_MS = 50_000;

export const fixturePath = (name: string): string => join(FIXTURES, name);

export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Probe implements AsyncDisposable {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(): Promise<Probe> {
    const probe = new Probe(await mkdtemp(join(tmpdir(), "seccomp-")));
    try {
      await probe.compile("seccomp-probe", ["-static"]);
      return probe;
    } catch (error) {
      await probe[Symbol.asyncDispose]();
      throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return rm(this.directory, { recursive: true, force: true });
  }

  /** @returns the path of the program */
  async compile(name: string, flags: readonly string[]): Promise<string> {
    const output = join(this.directory, name);
    const warnings = ["-Wall", "-Wextra", "-Werror"];
    const source = fixturePath(`${name}.c`);
    await run("cc", ["-std=gnu11", "-D_GNU_SOURCE", "-O1", ...warnings, ...flags, "-o", output, source]);
    return output;
  }

  /** One answer for each line, such as "errno 1". */
  async attempt(filter: Uint8Array | undefined, lines: readonly string[]): Promise<readonly string[]> {
    const ended = await this.#run(filter, ["calls"], lines.map((line) => `${line}\n`).join(""));
    const answers = ended.stdout.split("\n").slice(0, -1);
    if (ended.code !== 0 || answers.length !== lines.length) {
      throw new Error(`the probe ended early: ${JSON.stringify({ ...ended, last: lines[answers.length] })}`);
    }
    return answers;
  }

  execute(filter: Uint8Array | undefined, command: readonly string[]): Promise<Ended> {
    return this.#run(filter, ["exec", ...command], "");
  }

  async #run(filter: Uint8Array | undefined, rest: readonly string[], input: string): Promise<Ended> {
    const file = filter === undefined ? "-" : await this.#store(filter);
    const child = spawn(join(this.directory, "seccomp-probe"), [file, ...rest], {
      cwd: this.directory,
      timeout: DEADLINE_MS,
      killSignal: "SIGKILL",
    });
    // A process that was killed at once reads nothing.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const [stdout, stderr] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, "close"),
    ]);
    return { stdout, stderr, code: child.exitCode, signal: child.signalCode };
  }

  async #store(filter: Uint8Array): Promise<string> {
    const file = join(await mkdtemp(join(this.directory, "filter-")), "filter.bpf");
    await writeFile(file, filter);
    return file;
  }
}
