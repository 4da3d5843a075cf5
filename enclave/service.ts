/** One service: its state, its process, its health. Who depends on whom is decided by ServiceGroup. */
import { constants } from "node:os";

import { KitError, toKitError } from "../core/errors.ts";
import type { HealthName, ServiceStatus } from "../wire/control.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import type { Clock } from "./clock.ts";
import type { Compartment, CompartmentCgroup } from "./compartment.ts";
import type { EventStore } from "./event-store.ts";
import { monitorHealth } from "./health-monitor.ts";
import { probeHealth } from "./health-probe.ts";
import type { LogStore } from "./log-store.ts";
import { openOutputPipes, type OutputPipes } from "./output-pipes.ts";
import type { ProcessEnd } from "./process-end.ts";
import { decideAfterEnd, type RestartTiming } from "./restart-policy.ts";
import { NO_COUNTERS, RunAccount, type RunCounters } from "./run-account.ts";
import { environmentOf, type OutputSink, type ServiceProcess, startProcess } from "./service-process.ts";
import { isSettled, processOf, type ServiceState, StateCell } from "./service-state.ts";

/** What all services share. */
export interface ServiceContext {
  readonly serviceExec: string;
  readonly setIdentity: boolean;
  /** Folder of the output pipes (output-pipes.ts); absent: output comes through sockets. */
  readonly pipeDirectory?: () => string | undefined;
  readonly timing: RestartTiming;
  readonly clock: Clock;
  /** A value in [0, 1). */
  readonly random: () => number;
  readonly events: EventStore;
  readonly logs: LogStore;
  /** False while the enclave stops: nothing is started any more. */
  readonly mayStart: () => boolean;
  /** Called after every change of state or health. */
  readonly onChange: () => void;
}

const STOPPED = "stopped_by_operator";

export class Service {
  readonly config: ServiceConfig;
  readonly #context: ServiceContext;
  readonly #compartment: Compartment;
  readonly #cell = new StateCell();
  readonly #settled = new Set<() => void>();
  #health: HealthName = "none";
  #healthDetail: string | null = null;
  #startedAt: number | null = null;
  #reason: string | null = null;
  #restarts = 0;
  #endsInRow = 0;
  #hasRun = false;
  #hasCompleted = false;
  #account: RunAccount | undefined;
  #counters: RunCounters = NO_COUNTERS;

  constructor(config: ServiceConfig, context: ServiceContext, compartment: Compartment) {
    this.config = config;
    this.#context = context;
    this.#compartment = compartment;
    this.#resetHealth();
  }

  get state(): ServiceState {
    return this.#cell.current;
  }

  get health(): HealthName {
    return this.#health;
  }

  /** Its program was executed at least once since it was last told to start. */
  get hasRun(): boolean {
    return this.#hasRun;
  }

  /** It ended with status 0 since it was last told to start. */
  get hasCompleted(): boolean {
    return this.#hasCompleted;
  }

  /** Options of service-exec with which its processes are confined. */
  get confinement(): readonly string[] {
    return this.#compartment.options;
  }

  /** Bytes that the run of now, or the last one, has printed. */
  get outputBytes(): number {
    return this.#account?.outputBytes ?? 0;
  }

  status(): Omit<ServiceStatus, "notIsolated" | "limits"> {
    const state = this.#cell.current;
    const reason = state.name === "waiting" || state.name === "blocked" ? state.reason : this.#reason;
    return {
      name: this.config.name,
      state: state.name,
      pid: processOf(state)?.pid ?? null,
      restarts: this.#restarts,
      health: this.#health,
      healthDetail: this.#healthDetail,
      startedAt: this.#startedAt,
      reason,
      user: { name: this.config.user.name, uid: this.config.user.uid },
    };
  }

  /** Starts the process of a service that waits or is due again; refused silently while the enclave stops. */
  begin(): void {
    const { name } = this.#cell.current;
    const isDue = name === "waiting" || name === "backoff" || name === "crash_loop";
    if (!isDue || !this.#context.mayStart()) return;
    const account = this.#openAccount();
    const started = this.#startProcess(account);
    this.#account = account;
    this.#reason = null;
    this.#startedAt = this.#context.clock.epochMs();
    this.#resetHealth();
    this.#enter({ name: "starting", process: started });
    void started.executed.then((executed) => (executed ? this.#afterExec(started) : undefined));
    void this.#awaitEnd(started, account);
  }

  async #awaitEnd(started: ServiceProcess, account: RunAccount): Promise<void> {
    const { end, counters } = await account.conclude(await started.ended);
    this.#counters = counters;
    this.#afterEnd(started, end);
  }

  #startProcess(account: RunAccount): ServiceProcess {
    const { config } = this;
    const { serviceExec, setIdentity, logs } = this.#context;
    const { cgroup, options } = this.#compartment;
    return startProcess({
      serviceExec,
      setIdentity,
      user: config.user,
      workingDir: config.workingDir,
      environment: environmentOf(config),
      command: config.command,
      options,
      openOutput: (stream) => countedOutput(logs.openStream(config.name, stream), account),
      openPipes: this.#pipeOpener(),
      clearUp: cgroup === undefined ? undefined : async () => await this.#killAll(cgroup),
    });
  }

  #openAccount(): RunAccount {
    const { cgroup } = this.#compartment;
    return new RunAccount({
      limits: this.config.limits,
      clock: this.#context.clock,
      readCounters: cgroup === undefined ? undefined : async () => await cgroup.readCounters(),
      before: this.#counters,
      onExcess: (excess) => this.#noteExcess(excess),
      kill: () => this.kill(),
    });
  }

  #noteExcess(excess: string): void {
    this.#reason = excess;
    this.#context.events.add(this.config.name, excess);
    this.#context.onChange();
  }

  /** Never rejects: what cannot be killed is told and left. */
  async #killAll(cgroup: CompartmentCgroup): Promise<void> {
    try {
      await cgroup.killAll();
    } catch (error) {
      this.#context.events.add(this.config.name, `processes are left: ${toKitError(error).message}`);
    }
  }

  #pipeOpener(): (() => OutputPipes) | undefined {
    const pipeDirectory = this.#context.pipeDirectory?.();
    if (pipeDirectory === undefined) return undefined;
    return () => openOutputPipes(pipeDirectory, this.config.name);
  }

  /** A waiting service will never start. */
  block(reason: string): void {
    this.#enter({ name: "blocked", reason });
  }

  explainWait(reason: string): void {
    this.#cell.explainWait(reason);
  }

  /** Lets a service that ended wait for its dependencies again. @throws E_ENCLAVE_STOPPING */
  requestStart(): void {
    if (!this.#context.mayStart()) {
      throw new KitError("E_ENCLAVE_STOPPING", `${this.config.name} is not started: the enclave is stopping`);
    }
    if (!isSettled(this.#cell.current)) return;
    this.#endsInRow = 0;
    this.#hasRun = false;
    this.#hasCompleted = false;
    this.#enter({ name: "waiting", reason: null });
  }

  /** Stop signal, grace period, SIGKILL to the whole group. Resolves when the service is settled. */
  async stop(): Promise<void> {
    const state = this.#cell.current;
    if (isSettled(state)) return;
    const settled = new Promise<void>((resolve) => this.#settled.add(resolve));
    if (state.name === "starting" || state.name === "running") this.#stopProcess(state.process);
    else if (state.name !== "stopping") {
      this.#reason = STOPPED;
      this.#enter({ name: "stopped", reason: STOPPED });
    }
    await settled;
  }

  /** SIGKILL to everything that belongs to it. */
  kill(): void {
    processOf(this.#cell.current)?.kill("SIGKILL");
    const { cgroup } = this.#compartment;
    if (cgroup !== undefined) void this.#killAll(cgroup);
  }

  #stopProcess(running: ServiceProcess): void {
    const { stopGracePeriodMs } = this.config;
    this.#enter({ name: "stopping", process: running });
    running.kill(signalOf(this.config));
    this.#cell.onExit(this.#context.clock.after(stopGracePeriodMs, () => running.kill("SIGKILL")));
  }

  #afterExec(started: ServiceProcess): void {
    const state = this.#cell.current;
    if (state.name !== "starting" || state.process !== started) return;
    this.#hasRun = true;
    this.#enter({ name: "running", process: started, sinceMs: this.#context.clock.monotonicMs() });
    this.#watchHealth();
  }

  #afterEnd(ended: ServiceProcess, end: ProcessEnd): void {
    const state = this.#cell.current;
    if (processOf(state) !== ended) return;
    this.#resetHealth();
    this.#reason = state.name === "stopping" ? STOPPED : end.reason;
    if (state.name === "stopping") {
      this.#enter({ name: "stopped", reason: STOPPED });
      return;
    }
    const { timing, clock, random } = this.#context;
    const wasSteady = state.name === "running" && clock.monotonicMs() - state.sinceMs >= timing.steadyMs;
    this.#endsInRow = wasSteady ? 1 : this.#endsInRow + 1;
    if (end.clean) this.#hasCompleted = true;
    const { clean } = end;
    const after = decideAfterEnd(this.config.restart, { clean, endsInRow: this.#endsInRow }, timing, random);
    if ("delayMs" in after) this.#scheduleStart(after.next, after.delayMs, end.reason);
    else this.#enter({ name: after.next, reason: end.reason });
  }

  #scheduleStart(name: "backoff" | "crash_loop", delayMs: number, reason: string): void {
    this.#enter({ name, reason, delayMs });
    const restart = (): void => {
      if (this.#context.mayStart()) this.#restarts += 1;
      this.begin();
    };
    this.#cell.onExit(this.#context.clock.after(delayMs, restart));
  }

  #watchHealth(): void {
    const { healthcheck: check } = this.config;
    if (check === undefined) return;
    const stop = new AbortController();
    this.#cell.onExit(() => stop.abort());
    const { serviceExec, setIdentity, clock } = this.#context;
    const { options } = this.#compartment;
    const probe = (signal: AbortSignal): ReturnType<typeof probeHealth> =>
      probeHealth(check, { service: this.config, serviceExec, setIdentity, options }, signal);
    const onChange = (health: HealthName, detail: string | null): void => this.#setHealth(health, detail);
    void monitorHealth({ check, clock, probe, onChange }, stop.signal);
  }

  #setHealth(health: HealthName, detail: string | null): void {
    const isNew = health !== this.#health;
    this.#health = health;
    this.#healthDetail = detail;
    if (!isNew) return;
    this.#context.events.add(this.config.name, detail === null ? health : `${health}: ${detail}`);
    this.#context.onChange();
  }

  #resetHealth(): void {
    this.#health = this.config.healthcheck === undefined ? "none" : "starting";
    this.#healthDetail = null;
  }

  #enter(next: ServiceState): void {
    this.#cell.enter(next);
    const detail = "reason" in next && next.reason !== null ? `: ${next.reason}` : "";
    this.#context.events.add(this.config.name, `${next.name}${detail}`);
    if (isSettled(next)) {
      for (const resolve of this.#settled) resolve();
      this.#settled.clear();
    }
    this.#context.onChange();
  }
}

function countedOutput(sink: OutputSink, account: RunAccount): OutputSink {
  return {
    push: (chunk) => {
      sink.push(chunk);
      account.countOutput(chunk.length);
    },
    end: () => sink.end(),
  };
}

/** The decoder has checked the name. */
function signalOf({ stopSignal }: ServiceConfig): number {
  const known = Object.entries(constants.signals).find(([name]) => name === stopSignal);
  return known?.[1] ?? constants.signals.SIGTERM;
}
