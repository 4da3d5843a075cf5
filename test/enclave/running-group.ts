/** Services as real processes in this process's care, with a folder for what they leave behind. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Clock, SYSTEM_CLOCK } from "../../enclave/clock.ts";
import { EventStore } from "../../enclave/event-store.ts";
import { LogStore } from "../../enclave/log-store.ts";
import { RESTART_TIMING, type RestartTiming } from "../../enclave/restart-policy.ts";
import type { Service } from "../../enclave/service.ts";
import { ServiceGroup } from "../../enclave/service-group.ts";
import type { ServiceStatus } from "../../wire/control.ts";
import type { ServiceConfig } from "../../wire/enclave-config.ts";
import { eventually } from "./eventually.ts";
import { SERVICE_EXEC } from "./running-supervisor.ts";

/** Delays of a few ms, so that real time suffices. */
export const QUICK: RestartTiming = { ...RESTART_TIMING, backoff: { initialMs: 1, maximumMs: 4, jitter: 0 } };

export interface GroupFixture {
  readonly timing?: RestartTiming;
  readonly clock?: Clock;
  readonly setIdentity?: boolean;
}

type GroupStatus = ReturnType<Service["status"]>;

export class RunningGroup implements AsyncDisposable {
  readonly group: ServiceGroup;
  readonly events: EventStore;
  readonly logs: LogStore;
  readonly directory: string;

  private constructor(directory: string, services: readonly ServiceConfig[], fixture: GroupFixture) {
    const { clock = SYSTEM_CLOCK, timing = QUICK, setIdentity = false } = fixture;
    const epochMs = (): number => clock.epochMs();
    this.directory = directory;
    this.events = new EventStore({ generation: 1, epochMs });
    this.logs = new LogStore({ generation: 1, epochMs });
    const stores = { events: this.events, logs: this.logs };
    this.group = new ServiceGroup(services, {
      serviceExec: SERVICE_EXEC,
      setIdentity,
      timing,
      clock,
      random: () => 0,
      ...stores,
    });
  }

  /** @param services made with the folder, which is theirs to write to. */
  static async start(
    services: (directory: string) => readonly ServiceConfig[],
    fixture: GroupFixture = {},
  ): Promise<RunningGroup> {
    const directory = await mkdtemp(join(tmpdir(), "group-"));
    const running = new RunningGroup(directory, services(directory), fixture);
    running.group.start();
    return running;
  }

  statuses(): GroupStatus[] {
    return this.group.services.map((each) => each.status());
  }

  status(name: string): GroupStatus {
    const status = this.statuses().find((each) => each.name === name);
    if (status === undefined) throw new Error(`no service ${name}`);
    return status;
  }

  untilState(name: string, state: ServiceStatus["state"]): Promise<GroupStatus> {
    return eventually(`${name} ${state}, is ${JSON.stringify(this.statuses())}`, () => {
      const status = this.status(name);
      return status.state === state ? status : undefined;
    });
  }

  /** `service message` of every event so far. */
  history(): string[] {
    return this.events.read(0).entries.map(({ service, message }) => `${service ?? "enclave"} ${message}`);
  }

  lines(service: string): string[] {
    return this.logs
      .read({ after: 0, limitBytes: 90_000, services: [service] })
      .entries.map(({ line }) => line);
  }

  /** The pid that a service wrote to a file of the folder. */
  pidIn(file: string): Promise<number> {
    return eventually(`${file} written`, async () => {
      const text = await readFile(join(this.directory, file), "utf8").catch(() => "");
      return text.endsWith("\n") ? Number(text) : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.group.stopAll();
    await rm(this.directory, { recursive: true });
  }
}

/** False for ended processes, also those that nobody has reaped yet. */
export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return stat !== "" && !/\) [ZX] /.test(stat);
}
