/**
 * Reloads: from the image's own configuration, or, in development, from services that an operator sends. A set that is
 * refused changes nothing; one that is taken changes what differs from what runs, and nothing else.
 */
import { isDeepStrictEqual } from "node:util";

import { KitError } from "../core/errors.ts";
import type { ReloadOverrides, ReloadResult } from "../wire/control.ts";
import type { EnclaveConfig, ServiceConfig } from "../wire/enclave-config.ts";
import { decodeEgressConfig, type EgressConfig } from "../wire/egress-policy.ts";
import { decodeServices } from "../wire/enclave-config-decoder.ts";
import type { Compartment } from "./compartment.ts";
import { assertProduction, type Compartments } from "./compartments.ts";
import type { EventStore } from "./event-store.ts";
import type { ServiceGroup } from "./service-group.ts";

export interface ReloaderOptions {
  /** The measured one. */
  readonly config: EnclaveConfig;
  readonly services: ServiceGroup;
  readonly compartments: Compartments;
  readonly events: EventStore;
  /** False where only one uid exists. */
  readonly setIdentity: boolean;
  /** Makes what services print into, before they start. */
  readonly preparePipes: (services: readonly ServiceConfig[]) => Promise<void>;
  /** Resolves when what such services need of the enclave is there, or will not be soon. */
  readonly readyFor: (config: Pick<EnclaveConfig, "services" | "egress">) => Promise<void>;
}

export class Reloader {
  readonly #options: ReloaderOptions;
  #last: Promise<unknown> = Promise.resolve();
  #overridden = false;
  #egress: EgressConfig;

  constructor(options: ReloaderOptions) {
    this.#options = options;
    this.#egress = options.config.egress;
  }

  /** The rules in force. */
  get egress(): EgressConfig {
    return this.#egress;
  }

  /** True while the services are not the image's own. */
  get overridden(): boolean {
    return this.#overridden;
  }

  /** Starts the services of the image. @throws E_CGROUP_*, E_ENCLAVE_LIMITS, E_ENCLAVE_ISOLATION */
  async start(): Promise<void> {
    await this.#inTurn(async () => await this.#start());
  }

  async #start(): Promise<void> {
    const { config, services, compartments, preparePipes } = this.#options;
    const [prepared] = await Promise.all([
      compartments.prepare(config.services),
      preparePipes(config.services),
    ]);
    if (config.mode === "production") assertProduction(config.services, compartments);
    await this.#options.readyFor(config);
    // Whoever stopped the enclave meanwhile wants no services.
    if (!services.stopping) await services.reload(config.services, prepared);
  }

  /**
   * One after the other.
   * @throws E_ENCLAVE_CONFIG, E_ENCLAVE_SINGLE_USER, E_ENCLAVE_STOPPING, E_CGROUP_*
   */
  async reload(overrides: ReloadOverrides): Promise<ReloadResult> {
    return await this.#inTurn(async () => await this.#reload(overrides));
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => undefined);
    return await mine;
  }

  async #reload({ services: values, egress }: ReloadOverrides): Promise<ReloadResult> {
    const { config, services, compartments, events } = this.#options;
    if (services.stopping) throw new KitError("E_ENCLAVE_STOPPING", "not reloaded: the enclave is stopping");
    const next = values === undefined ? config.services : decodeServices(values);
    const rules = egress === undefined ? config.egress : decodeEgressConfig(egress, "egress", refuse);
    if (!this.#options.setIdentity) assertOneUser({ ...config, services: next });
    const prepared = await this.#prepare(next);
    await this.#options.readyFor({ services: next, egress: rules });
    const result = await services.reload(next, prepared);
    const isOther = !isDeepStrictEqual(rules, this.#egress);
    this.#egress = rules;
    this.#overridden = values !== undefined || egress !== undefined;
    events.add(null, `reloaded: ${describe(result)}${isOther ? "; egress rules changed" : ""}`);
    await compartments.remove(result.removed);
    return result;
  }

  /** What cannot be prepared is refused, and what runs keeps its limits. */
  async #prepare(next: readonly ServiceConfig[]): Promise<ReadonlyMap<string, Compartment>> {
    const { services, compartments, preparePipes } = this.#options;
    const running = services.services.map((service) => service.config);
    const owners = new Map(running.map(({ name, user }) => [name, user.uid]));
    try {
      await preparePipes(next.filter(({ name, user }) => owners.get(name) !== user.uid));
      return await compartments.prepare(next);
    } catch (error) {
      await compartments.remove(next.map(({ name }) => name).filter((name) => !owners.has(name)));
      await compartments.prepare(running);
      throw error;
    }
  }
}

function refuse(message: string): KitError {
  return new KitError("E_ENCLAVE_CONFIG", message);
}

/** @throws E_ENCLAVE_SINGLE_USER if the services want users that cannot be had. */
export function assertOneUser({ mode, singleUser, services }: EnclaveConfig): void {
  if (mode === "production") {
    throw new KitError("E_ENCLAVE_SINGLE_USER", "only one uid is mapped, which production mode refuses");
  }
  const other = services.find(({ user }) => user.uid !== 0 && user.assigned !== true);
  if (singleUser || other === undefined) return;
  const message = `only one uid is mapped, but service ${other.name} is to run as ${other.user.name} (${other.user.uid})`;
  throw new KitError("E_ENCLAVE_SINGLE_USER", message);
}

function describe({ added, removed, changed, unchanged }: ReloadResult): string {
  const parts = Object.entries({ added, changed, removed })
    .filter(([, names]) => names.length > 0)
    .map(([what, names]) => `${what} ${names.join(", ")}`);
  return parts.length === 0 ? `nothing changed (${unchanged.length} services)` : parts.join("; ");
}
