/**
 * The supervisor: gateway and services of one enclave, from start to the ordered end.
 *
 * It waits on no service without a deadline, parses no bytes from outside (the gateway does), and everything it keeps
 * is bounded. It acts on the measured configuration and on nothing else.
 */
import { dirname, join } from "node:path";

import type { Log } from "../core/log.ts";
import type { EgressConfig } from "../wire/egress-policy.ts";
import type { EnclaveStatus } from "../wire/control.ts";
import type { EnclaveConfig, ServiceConfig } from "../wire/enclave-config.ts";
import type { AttestationServerSettings } from "../wire/attestation-server.ts";
import { AttestationServer } from "./attestation-server.ts";
import type { Clock } from "./clock.ts";
import type { Compartments } from "./compartments.ts";
import { EventStore } from "./event-store.ts";
import type { GatewayCommand } from "./gateway-command.ts";
import { LogFile } from "./log-file.ts";
import { LogStore } from "./log-store.ts";
import { NsmDevice, type NsmDeviceOptions } from "./nsm-device.ts";
import { type OwnCommand, OwnProcess } from "./own-process.ts";
import { RESTART_TIMING, type RestartTiming } from "./restart-policy.ts";
import { Reloader, type ReloaderOptions } from "./reloader.ts";
import { ServiceGroup } from "./service-group.ts";
import type { Service } from "./service.ts";
import { measureServices, reportServices, type ReportSources } from "./service-report.ts";
import { Sessions, type SessionsOptions } from "./sessions/sessions.ts";
import { type CallTargets, carryOut } from "./supervisor-calls.ts";
import { serveGateway } from "./supervisor-server.ts";

export type SessionSettings = Pick<
  SessionsOptions,
  "streamSocket" | "streamOwner" | "archiveProgram" | "accounts" | "capabilities"
>;

export interface SupervisorOptions {
  readonly config: EnclaveConfig;
  /** 1 for the first supervisor of this boot. */
  readonly generation: number;
  /** How the one before ended, or null. */
  readonly previousExit: string | null;
  readonly pid: number;
  readonly serviceExec: string;
  /** False where only one uid exists. */
  readonly setIdentity: boolean;
  readonly gateway: GatewayCommand;
  readonly nsmDevice: Pick<NsmDeviceOptions, "command" | "path">;
  readonly attestation: {
    readonly command: OwnCommand;
    readonly settings: AttestationServerSettings;
  };
  readonly compartments: Compartments;
  /** Folder of the services' output pipes (output-pipes.ts), once they are made; undefined: sockets. */
  readonly pipeDirectory: () => string | undefined;
  /** Makes the pipes of services that a reload adds. */
  readonly preparePipes: (services: readonly ServiceConfig[]) => Promise<void>;
  /** How commands are run beside the services; nothing is, in production. */
  readonly sessions: SessionSettings;
  /** Where the gateway listens for initctl. */
  readonly controlSocket: string;
  /** Folder of log files; absent: lines are kept in memory only. */
  readonly logDirectory?: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly timing?: RestartTiming;
  /** The gateway listens, for the first time. */
  readonly onReady: () => void;
}

/** Time that the gateway gets to send the last logs and events to its clients. */
const GATEWAY_GRACE_MS = 1_000;
/** Services with egress rules wait so long for the gateway's first word. */
const EGRESS_WAIT_MS = 10_000;
/** The attestation server waits so long for services that come up. */
const ATTESTATION_WAIT_MS = 3_000;
/** Then the first answers of the services come first. */
const ATTESTATION_QUIET_MS = 300;

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #events: EventStore;
  readonly #logs: LogStore;
  readonly #files: LogFile[] = [];
  readonly #services: ServiceGroup;
  readonly #reloader: Reloader;
  readonly #gateway: OwnProcess;
  readonly #attestation: AttestationServer;
  readonly #nsmDevice: NsmDevice;
  #sessions: Sessions | undefined;
  readonly #started = Promise.withResolvers<void>();
  readonly #listening = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #isReady = false;
  #shutdown: Promise<void> | undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    const { clock, random, generation, config } = options;
    const epochMs = (): number => clock.epochMs();
    this.#events = new EventStore({ generation, epochMs });
    this.#logs = new LogStore({ generation, epochMs, ...this.#fileOpener() });
    const shared = { clock, random, events: this.#events, logs: this.#logs };
    const { serviceExec, setIdentity, pipeDirectory, timing = RESTART_TIMING } = options;
    const own = { serviceExec, setIdentity, pipeDirectory, timing };
    // Empty until the compartments are made, which takes as long as the gateway takes to start.
    this.#services = new ServiceGroup([], { ...shared, ...own });
    const { compartments, preparePipes } = options;
    const reloaded = { config, services: this.#services, events: this.#events, setIdentity };
    const readyFor: ReloaderOptions["readyFor"] = async ({ services, egress }) => {
      if (egress.rules.length > 0) await this.#awaitGateway();
      await this.#nsmDevice.prepareFor(services);
    };
    this.#reloader = new Reloader({ ...reloaded, compartments, preparePipes, readyFor });
    const serve = this.#createServe();
    this.#gateway = new OwnProcess({ ...options.gateway, ...shared, name: "gateway", serve });
    this.#attestation = new AttestationServer({ ...options.attestation, ...shared });
    this.#nsmDevice = new NsmDevice({ ...options.nsmDevice, ...shared });
  }

  /** Resolves when everything has ended in order after `shutDown`. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** @throws E_CGROUP_*, errno if the socket of sessions cannot be made. */
  async start(): Promise<void> {
    const { generation, previousExit, config } = this.#options;
    const before = previousExit === null ? "" : `; the one before ${previousExit}`;
    this.#events.add(null, `supervisor ${generation} started${before}`);
    if (config.mode === "development") this.#sessions = await this.#openSessions();
    this.#gateway.start();
    await this.#reloader.start();
    this.#started.resolve();
    void this.#startAttestation();
  }

  status(): EnclaveStatus {
    const { config, pid, generation, previousExit, setIdentity } = this.#options;
    return {
      name: config.name,
      mode: config.mode,
      attestation: config.attestation,
      supervisor: { pid, restarts: Math.max(0, generation - 1), previousExit },
      gateway: this.#gateway.status(),
      attestationServer: this.#attestation.status(),
      isolated: setIdentity,
      stopping: this.#shutdown !== undefined,
      overridden: this.#reloader.overridden,
      services: reportServices(this.#reportSources()),
    };
  }

  #reportSources(): ReportSources {
    const { compartments, clock, setIdentity } = this.#options;
    return { services: this.#services, compartments, clock, setIdentity };
  }

  /** Stops services in order, then the gateway. Further calls change nothing. */
  shutDown(reason: string): void {
    this.#shutdown ??= this.#shutDownInOrder(reason);
  }

  async #shutDownInOrder(reason: string): Promise<void> {
    const { log } = this.#options;
    this.#events.add(null, `stopping: ${reason}`);
    log.info("stopping", { reason });
    try {
      await this.#services.stopAll();
      this.#sessions?.hangUp();
      this.#events.add(null, "all services have ended");
      this.#events.close();
      this.#logs.close();
      const own = [this.#gateway, this.#attestation, this.#nsmDevice];
      await Promise.all(own.map(async (one) => await one.stop(GATEWAY_GRACE_MS)));
      await this.#sessions?.[Symbol.asyncDispose]();
      await Promise.all(this.#files.map((file) => file[Symbol.asyncDispose]()));
      this.#ended.resolve();
    } catch (error) {
      this.#ended.reject(error);
    }
  }

  #createServe(): ConstructorParameters<typeof OwnProcess>[0]["serve"] {
    const sessions = (): Sessions | undefined => this.#sessions;
    const { config, sessions: settings, controlSocket } = this.#options;
    const { streamSocket } = settings;
    const { mode, ingressPorts } = config;
    const egress = (): EgressConfig => this.#reloader.egress;
    const heldSockets = this.#options.gateway.heldSockets;
    const namesJournal = join(dirname(controlSocket), "names");
    const targets: CallTargets = {
      config,
      get settings() {
        const control = mode === "development";
        const paths = { namesJournal, streamSocket, controlSocket };
        return { control, ingressPorts, egress: egress(), heldSockets, ...paths };
      },
      started: this.#started.promise,
      get sessions() {
        return sessions();
      },
      services: this.#services,
      events: this.#events,
      logs: this.#logs,
      status: () => this.status(),
      stats: async () => await measureServices(this.#reportSources()),
      reload: async (overrides) => await this.#reloader.reload(overrides),
      onListening: () => this.#becomeReady(),
      onAlive: () => this.#gateway.feedWatchdog(),
      onPoweroff: () => this.shutDown("poweroff was asked for"),
    };
    return (stream, onViolation) => {
      serveGateway(stream, { carryOut: (call, signal) => carryOut(call, targets, signal), onViolation });
      stream.once("close", () => this.#sessions?.hangUp());
    };
  }

  /** Last: it keeps a processor busy for a third of a second, which is what somebody waits for who waits for a service. */
  async #startAttestation(): Promise<void> {
    await Promise.all([this.#listening.promise, this.#started.promise]);
    const late = new AbortController();
    const cancel = this.#options.clock.after(ATTESTATION_WAIT_MS, () => late.abort());
    while (!late.signal.aborted && this.#services.services.some(isComingUp))
      await this.#events.changes.changed(late.signal);
    cancel();
    await this.#pause(ATTESTATION_QUIET_MS);
    if (this.#shutdown === undefined) this.#attestation.start();
  }

  async #pause(timeMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(timeMs, resolve);
    await Promise.race([promise, this.#ended.promise]);
    cancel();
  }

  async #openSessions(): Promise<Sessions> {
    const { sessions, serviceExec, setIdentity, clock } = this.#options;
    const find = (name: string) => this.#services.services.find((one) => one.config.name === name);
    return await Sessions.open({
      ...sessions,
      serviceExec,
      setIdentity,
      clock,
      events: this.#events,
      findService: (name) => find(name)?.config,
      optionsOf: (name) => find(name)?.confinement ?? [],
    });
  }

  /** A service that is there before its way out would find nobody and may give up; one that waits for ever helps none. */
  async #awaitGateway(): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(EGRESS_WAIT_MS, resolve);
    await Promise.race([this.#listening.promise, late]);
    cancel();
  }

  #becomeReady(): void {
    this.#listening.resolve();
    this.#gateway.feedWatchdog();
    if (this.#isReady) return;
    this.#isReady = true;
    this.#options.onReady();
  }

  #fileOpener(): { readonly openFile?: (service: string) => LogFile } {
    const { logDirectory: directory, log } = this.#options;
    if (directory === undefined) return {};
    const openFile = (service: string): LogFile => {
      const file = new LogFile({ directory, service, log });
      this.#files.push(file);
      return file;
    };
    return { openFile };
  }
}

function isComingUp({ state, health }: Service): boolean {
  return (
    state.name === "waiting" ||
    state.name === "starting" ||
    (state.name === "running" && health === "starting")
  );
}
