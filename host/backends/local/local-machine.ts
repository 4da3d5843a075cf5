/** A machine of the local backend: launcher process, hybrid vsock sockets, console. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import type { Socket } from "node:net";
import { PassThrough, Readable, type Writable } from "node:stream";

import { KitError } from "../../../core/errors.ts";
import type { LimitStatus } from "../../../wire/control.ts";
import { RUNTIME } from "../../../wire/runtime-layout.ts";
import type { Machine, MachineExit } from "../backend.ts";
import { idMapArguments } from "./id-map.ts";
import { type MachineCgroups, openMachineCgroups } from "./machine-cgroups.ts";
import { awaitLaunch } from "./launch-report.ts";
import type { LocalPlan } from "./local-plan.ts";
import { leaseTree } from "./tree-cache.ts";
import { VsockSockets } from "./vsock-sockets.ts";

const LIFELINE_FD = 3;
const REPORT_FD = 4;
/** As init allows one user (native/init/setup.c). */
const MAX_PIDS = 4096;
/** Time for the launcher to end once its lifeline is hung up. */
const LAUNCHER_END_MS = 5_000;

export interface LocalMachineOptions {
  /** Of the enclave; shows in the names of its cgroups. */
  readonly name: string;
  readonly plan: LocalPlan;
  readonly launcher: string;
  /** Made and removed by the machine. */
  readonly vsockDirectory: string;
  /** Empty directory to mount on. */
  readonly scratchDirectory: string;
  readonly signal: AbortSignal;
}

interface Parts {
  readonly sockets: VsockSockets;
  readonly cgroups: MachineCgroups;
}

export class LocalMachine implements Machine {
  readonly limits: readonly LimitStatus[];
  readonly console: Readable;
  readonly exited: Promise<MachineExit>;
  readonly #options: LocalMachineOptions;
  readonly #owned: AsyncDisposableStack;
  readonly #sockets: VsockSockets;
  readonly #cgroups: MachineCgroups;
  readonly #consoleInput: PassThrough;
  readonly #exit = Promise.withResolvers<MachineExit>();
  #child: ChildProcess | undefined;

  private constructor(options: LocalMachineOptions, owned: AsyncDisposableStack, parts: Parts) {
    this.#options = options;
    this.#owned = owned;
    this.#sockets = parts.sockets;
    this.#cgroups = parts.cgroups;
    this.limits = describeLimits(options.plan, parts.cgroups);
    this.#consoleInput = new PassThrough();
    this.console = this.#consoleInput;
    this.exited = this.#exit.promise;
  }

  /** @throws E_HOST_STATE_PATH */
  static async open(options: LocalMachineOptions): Promise<LocalMachine> {
    await using opening = new AsyncDisposableStack();
    const { name, vsockDirectory, scratchDirectory, plan, signal } = options;
    await mkdir(vsockDirectory, { recursive: true, mode: 0o711 });
    await mkdir(scratchDirectory, { recursive: true, mode: 0o700 });
    const { rootUid, memoryBytes, cpus } = plan;
    const asked = { name, rootUid, rootGid: rootUid, memoryBytes, cpus, pids: MAX_PIDS };
    const making = openMachineCgroups(asked);
    opening.defer(async () => await (await making)[Symbol.asyncDispose]());
    opening.use(await leaseTree(plan.tree, process.pid));
    const sockets = await VsockSockets.open({ directory: vsockDirectory, rootUid: plan.rootUid, signal });
    opening.use(sockets);
    const cgroups = await making;
    return new LocalMachine(options, opening.move(), { sockets, cgroups });
  }

  async onConnect(port: number, handler: (socket: Socket) => void): Promise<void> {
    await this.#sockets.onConnect(port, handler);
  }

  async connect(port: number, signal: AbortSignal): Promise<Socket> {
    return await this.#sockets.connect(port, signal);
  }

  async start(): Promise<void> {
    if (this.#child !== undefined) throw new TypeError("the machine was started before");
    const { launcher } = this.#options;
    const child = spawn(launcher, this.#arguments(), {
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
      env: {},
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
    child.once("exit", (status, signal) => this.#exit.resolve({ status, signal }));
    for (const output of [child.stdout, child.stderr])
      output?.on("data", (chunk: Buffer) => this.#print(chunk));
    child.once("close", () => this.#consoleInput.end());
    const report: unknown = child.stdio?.[REPORT_FD];
    if (!(report instanceof Readable)) throw new KitError("E_BACKEND_LAUNCH", `cannot start ${launcher}`);
    await Promise.race([awaitLaunch(report), failed.promise]);
  }

  async stop(graceMs: number): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    if (graceMs > 0) child.kill("SIGTERM");
    const timer = setTimeout(() => this.#kill(), graceMs);
    await this.exited.finally(() => clearTimeout(timer));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child?.pid !== undefined) {
      this.#kill();
      await this.exited;
    }
    await this.#owned.disposeAsync();
  }

  /** Hanging up the lifeline makes the launcher kill everything inside; a launcher that does not is killed, which does. */
  #kill(): void {
    const child = this.#child;
    const lifeline: Writable | Readable | null | undefined = child?.stdio[LIFELINE_FD];
    lifeline?.destroy();
    const timer = setTimeout(() => child?.kill("SIGKILL"), LAUNCHER_END_MS);
    void this.exited.finally(() => clearTimeout(timer));
  }

  /** A console that nobody reads does not stop the machine: what does not fit is dropped. */
  #print(chunk: Buffer): void {
    if (!this.#consoleInput.writableNeedDrain) this.#consoleInput.write(chunk);
  }

  #arguments(): string[] {
    const { plan, scratchDirectory, vsockDirectory } = this.#options;
    return [
      "run",
      ...idMapArguments(plan.map),
      "--root",
      plan.tree,
      "--scratch",
      scratchDirectory,
      "--vsock-dir",
      vsockDirectory,
      "--tmpfs-bytes",
      String(plan.tmpfsBytes),
      ...plan.hostBinds.flatMap((path) => ["--bind-ro", `${path}:${path}`]),
      ...this.#cgroups.arguments,
      "--lifeline-fd",
      String(LIFELINE_FD),
      "--report-fd",
      String(REPORT_FD),
      "--",
      RUNTIME.init,
    ];
  }
}

function describeLimits({ memoryBytes, cpus }: LocalPlan, { limits }: MachineCgroups): LimitStatus[] {
  return [
    { name: "memory", value: memoryBytes, ...limits.memory },
    { name: "cpus", value: cpus, ...limits.cpus },
    { name: "pids", value: MAX_PIDS, ...limits.pids },
  ];
}
