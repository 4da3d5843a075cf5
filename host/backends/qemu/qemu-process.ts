/** QEMU as a process: its console, and an end that comes at the latest with this process's own. */
import { type ChildProcess, spawn } from "node:child_process";
import { PassThrough, Readable } from "node:stream";

import { KitError } from "../../../core/errors.ts";
import { awaitLaunch } from "../local/launch-report.ts";
import { ConsoleTail } from "./machine-end.ts";
import { qemuArguments } from "./qemu-arguments.ts";
import type { QemuPlan } from "./qemu-plan.ts";

const LIFELINE_FD = 3;
const REPORT_FD = 4;
/** Time for the launcher to end once its lifeline is hung up. */
const LAUNCHER_END_MS = 5_000;

export interface ProcessExit {
  readonly status: number | null;
  readonly signal: string | null;
}

export class QemuProcess {
  /** What the guest and QEMU print; what nobody reads in time is dropped. */
  readonly console: Readable;
  readonly tail = new ConsoleTail();
  /** Settles when QEMU is gone; pending until it is started. */
  readonly exited: Promise<ProcessExit>;
  readonly #plan: QemuPlan;
  readonly #vsockPath: string;
  readonly #input = new PassThrough();
  readonly #exit = Promise.withResolvers<ProcessExit>();
  #child: ChildProcess | undefined;

  /** @param vsockPath socket of the vsock device */
  constructor(plan: QemuPlan, vsockPath: string) {
    this.#plan = plan;
    this.#vsockPath = vsockPath;
    this.console = this.#input;
    this.exited = this.#exit.promise;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resolves once QEMU was executed. @throws E_BACKEND_LAUNCH */
  async start(): Promise<void> {
    const { launcher, qemu } = this.#plan;
    const life = ["--lifeline-fd", String(LIFELINE_FD), "--report-fd", String(REPORT_FD)];
    const words = qemuArguments({
      ...this.#plan,
      dataFolders: qemu.dataFolders,
      vsock: { socketPath: this.#vsockPath },
    });
    const child = spawn(launcher, ["guard", ...life, "--", ...qemu.command, ...words], {
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
      env: qemu.environment,
    });
    this.#child = child;
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => undefined); // a spawn that fails at once is told by what it lacks
    child.once("error", (error) => {
      this.#exit.resolve({ status: null, signal: null });
      failed.reject(
        new KitError("E_BACKEND_LAUNCH", `cannot run ${launcher}: ${error.message}`, { cause: error }),
      );
    });
    // Not at "exit": the reason may be in the last lines.
    child.once("close", (status, signal) => {
      this.#input.end();
      this.#exit.resolve({ status, signal });
    });
    for (const output of [child.stdout, child.stderr])
      output?.on("data", (chunk: Buffer) => this.#print(chunk));
    const report: unknown = child.stdio?.[REPORT_FD];
    if (!(report instanceof Readable)) throw new KitError("E_BACKEND_LAUNCH", `cannot start ${launcher}`);
    await Promise.race([awaitLaunch(report), failed.promise]);
  }

  /** Hanging up the lifeline makes the launcher kill QEMU; the launcher's own death does too. */
  kill(): void {
    const child = this.#child;
    if (child === undefined) return;
    child.stdio[LIFELINE_FD]?.destroy();
    const timer = setTimeout(() => child.kill("SIGKILL"), LAUNCHER_END_MS);
    void this.exited.finally(() => clearTimeout(timer));
  }

  #print(chunk: Buffer): void {
    this.tail.add(chunk);
    if (!this.#input.writableNeedDrain) this.#input.write(chunk);
  }
}
