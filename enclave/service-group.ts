/** All services of the enclave: starts them as their dependencies allow, stops them in the reverse order. */
import { KitError } from "../core/errors.ts";
import type { ReloadResult } from "../wire/control.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import { type Compartment, OPEN_COMPARTMENT } from "./compartment.ts";
import { judgeDependencies } from "./dependency-rules.ts";
import { compareServices } from "./service-comparison.ts";
import { Service, type ServiceContext } from "./service.ts";
import { dependantsByName, stopDeadlineMs } from "./stop-order.ts";

/** However long the grace periods are, a machine ends within this. */
const MAX_STOP_MS = 100_000;
/** Time for processes to be reaped after the last SIGKILL. */
const KILL_GRACE_MS = 2_000;

export interface ServiceGroupOptions extends Omit<ServiceContext, "mayStart" | "onChange"> {
  /** By the names of services; a service without one is not confined. */
  readonly compartments?: ReadonlyMap<string, Compartment>;
}

export class ServiceGroup {
  #services = new Map<string, Service>();
  readonly #options: ServiceGroupOptions;
  readonly #context: ServiceContext;
  #stopping: Promise<void> | undefined;
  #isEvaluating = false;

  constructor(configs: readonly ServiceConfig[], options: ServiceGroupOptions) {
    this.#options = options;
    this.#context = {
      ...options,
      mayStart: () => this.#stopping === undefined,
      onChange: () => this.#evaluateSoon(),
    };
    for (const config of configs) this.#add(config, options.compartments);
  }

  get stopping(): boolean {
    return this.#stopping !== undefined;
  }

  get services(): readonly Service[] {
    return [...this.#services.values()];
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
   * Takes over a new set of services: what is gone or changed is stopped, what is new or changed is started, and what
   * is the same is not touched. The caller has checked the set, and runs one reload at a time.
   * @throws E_ENCLAVE_STOPPING
   */
  async reload(
    configs: readonly ServiceConfig[],
    compartments: ReadonlyMap<string, Compartment>,
  ): Promise<ReloadResult> {
    const result = compareServices(
      this.services.map((service) => service.config),
      configs,
    );
    await Promise.all([...result.removed, ...result.changed].map((name) => this.stopService(name)));
    if (this.stopping) throw new KitError("E_ENCLAVE_STOPPING", "not reloaded: the enclave is stopping");
    const earlier = this.#services;
    this.#services = new Map();
    for (const config of configs) {
      const kept = result.unchanged.includes(config.name) ? earlier.get(config.name) : undefined;
      if (kept === undefined) this.#add(config, compartments);
      else this.#services.set(config.name, kept);
    }
    this.#evaluateSoon();
    return result;
  }

  #add(config: ServiceConfig, compartments: ReadonlyMap<string, Compartment> | undefined): void {
    const compartment = compartments?.get(config.name) ?? OPEN_COMPARTMENT;
    this.#services.set(config.name, new Service(config, this.#context, compartment));
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
