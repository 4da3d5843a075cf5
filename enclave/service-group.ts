/** All services of the enclave: starts them as their dependencies allow, stops them in the reverse order. */
import { KitError } from "../core/errors.ts";
import type { ServiceStatus } from "../wire/control.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import { judgeDependencies } from "./dependency-rules.ts";
import { Service, type ServiceContext } from "./service.ts";
import { dependantsByName, stopDeadlineMs } from "./stop-order.ts";

/** However long the grace periods are, a machine ends within this. */
const MAX_STOP_MS = 100_000;
/** Time for processes to be reaped after the last SIGKILL. */
const KILL_GRACE_MS = 2_000;

export type ServiceGroupOptions = Omit<ServiceContext, "mayStart" | "onChange">;

export class ServiceGroup {
  readonly #services = new Map<string, Service>();
  readonly #options: ServiceGroupOptions;
  #stopping: Promise<void> | undefined;
  #isEvaluating = false;

  constructor(configs: readonly ServiceConfig[], options: ServiceGroupOptions) {
    this.#options = options;
    const context: ServiceContext = {
      ...options,
      mayStart: () => this.#stopping === undefined,
      onChange: () => this.#evaluateSoon(),
    };
    for (const config of configs) this.#services.set(config.name, new Service(config, context));
  }

  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  status(): ServiceStatus[] {
    return [...this.#services.values()].map((service) => service.status());
  }

  /** Starts what may start; the rest follows as conditions are met. */
  start(): void {
    this.#evaluateSoon();
  }

  /** @throws E_SERVICE_UNKNOWN, E_ENCLAVE_STOPPING */
  startService(name: string): void {
    this.#find(name).requestStart();
  }

  /** Resolves when the service has ended. @throws E_SERVICE_UNKNOWN */
  async stopService(name: string): Promise<void> {
    await this.#find(name).stop();
  }

  /** @throws E_SERVICE_UNKNOWN, E_ENCLAVE_STOPPING */
  async restartService(name: string): Promise<void> {
    await this.stopService(name);
    this.startService(name);
  }

  /**
   * Stops everything, dependants first and what is independent at the same time, under one deadline. Nothing starts
   * any more from the first call on. Never rejects, and resolves even if a process cannot be killed.
   */
  stopAll(): Promise<void> {
    this.#stopping ??= this.#stopInOrder();
    return this.#stopping;
  }

  async #stopInOrder(): Promise<void> {
    const { clock, events } = this.#options;
    const configs = [...this.#services.values()].map((service) => service.config);
    const { promise: killed, resolve } = Promise.withResolvers<void>();
    const timers = [
      clock.after(stopDeadlineMs(configs, MAX_STOP_MS), () => {
        events.add(null, "stop deadline passed: killing what is left");
        for (const service of this.#services.values()) service.kill();
        timers.push(clock.after(KILL_GRACE_MS, resolve));
      }),
    ];
    await Promise.race([this.#stopDependantsFirst(configs), killed]);
    for (const cancel of timers) cancel();
  }

  async #stopDependantsFirst(configs: readonly ServiceConfig[]): Promise<void> {
    const dependants = dependantsByName(configs);
    const stops = new Map<string, Promise<void>>();
    const stop = (name: string): Promise<void> => {
      const known = stops.get(name);
      if (known !== undefined) return known;
      const first = Promise.all((dependants.get(name) ?? []).map(stop));
      const stopped = first.then(() => this.#find(name).stop());
      stops.set(name, stopped);
      return stopped;
    };
    await Promise.all(configs.map(({ name }) => stop(name)));
  }

  #find(name: string): Service {
    const service = this.#services.get(name);
    if (service !== undefined) return service;
    throw new KitError("E_SERVICE_UNKNOWN", `no service ${JSON.stringify(name)} in this enclave`);
  }

  /** Once per turn, and never in the middle of a service's own change. */
  #evaluateSoon(): void {
    if (this.#isEvaluating) return;
    this.#isEvaluating = true;
    queueMicrotask(() => {
      this.#isEvaluating = false;
      if (!this.stopping) this.#evaluate();
    });
  }

  #evaluate(): void {
    for (const service of this.#services.values()) {
      if (service.state.name !== "waiting") continue;
      const verdict = judgeDependencies(service.config.dependsOn, (name) => this.#services.get(name));
      if (verdict.kind === "met") service.begin();
      else if (verdict.kind === "hopeless") service.block(verdict.reason);
      else service.explainWait(verdict.reason);
    }
  }
}
