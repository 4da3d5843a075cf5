/**
 * One runner owns one enclave on the host: machine, listeners, logs, record. `run` is its whole life: open everything,
 * start the machine, follow it until it ends, close everything.
 */
import { rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

import { errorToJson, KitError, toKitError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { InitLine } from "../../wire/init-line.ts";
import { VSOCK_PORT } from "../../wire/ports.ts";
import type { Machine, MachineExit } from "../backends/backend.ts";
import type { EnclavePaths } from "../state/enclave-paths.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import type { FollowerOptions } from "./control-follower.ts";
import { describeCondition, type EnclaveFacts, isSettled } from "./enclave-condition.ts";
import { DevelopmentNsmSide } from "./development-nsm-side.ts";
import { answerHeartbeat, receiveInitLine } from "./host-ports.ts";
import { LineGatherer } from "./line-gatherer.ts";
import { LogWriter } from "./log-writer.ts";
import { NetworkSide } from "./network-side.ts";
import { openMachine } from "./open-machine.ts";
import type { RecordKeeper } from "./record-keeper.ts";
import type { RunRequest } from "./run-request.ts";

export interface RunnerOptions {
  readonly request: RunRequest;
  readonly paths: EnclavePaths;
  readonly keeper: RecordKeeper;
  readonly log: Log;
  /** Aborting asks for an ordered stop; a text as its reason makes the end a failure. */
  readonly stop: AbortSignal;
  /** Aborting kills. */
  readonly kill: AbortSignal;
}

/** A stop waits so long for the logs to be followed, lest the last words of what failed at once are lost. */
const LOGS_OPEN_MS = 2_000;
/** After the machine is gone the last logs may still be on their way through closed sockets: this long at most. */
const FOLLOWER_END_MS = 500;

export class Runner {
  readonly #options: RunnerOptions;
  #facts: EnclaveFacts;
  /** Reason given by whoever asked for the stop; makes the end a failure. */
  #failure: string | undefined;
  #network: NetworkSide | undefined;
  readonly #logsOpen = Promise.withResolvers<void>();

  constructor(options: RunnerOptions) {
    this.#options = options;
    const { mode } = options.request.record;
    this.#facts = {
      ready: false,
      tellsStatus: mode === "development",
      status: undefined,
      wasHealthy: false,
      stopAsked: false,
      end: undefined,
      exit: undefined,
    };
  }

  /** Resolves when the enclave is gone and everything is closed; a refusal to start ends in the record. */
  async run(): Promise<void> {
    const { keeper } = this.#options;
    try {
      const exit = await this.#live();
      this.#know({ exit });
      if (exit.error !== undefined && keeper.current.state === "failed")
        keeper.update({ error: errorToJson(exit.error) });
      if (this.#failure !== undefined) keeper.update({ state: "failed", reason: this.#failure });
    } catch (error) {
      const refusal = toKitError(error);
      this.#options.log.error("cannot run the enclave", { code: refusal.code, reason: refusal.message });
      keeper.update({ state: "failed", reason: refusal.message, error: errorToJson(refusal) });
    }
    keeper.update({ runner: { pid: null, startTicks: null } });
    await keeper.flush();
  }

  async #live(): Promise<MachineExit> {
    const { request, paths, keeper } = this.#options;
    await using owned = new AsyncDisposableStack();
    const ended = new AbortController();
    owned.defer(async () => await rm(paths.boot, { recursive: true, force: true }));
    owned.defer(() => ended.abort());
    const machine = owned.use(await this.#openMachine(ended.signal));
    keeper.update({ limits: machine.limits });
    if (request.record.mode === "production") assertLimits(machine);
    await this.#openNsm(machine, ended.signal);
    const network = owned.use(await this.#openNetwork(machine, ended.signal));
    this.#network = network;
    const logs = owned.use(await LogWriter.open(paths.logs));
    const keepConsole = this.#keepConsole(machine, logs);
    // The hardware takes its time; a stop meanwhile gives the launch up.
    await machine.start(AbortSignal.any([ended.signal, this.#options.stop, this.#options.kill]));
    this.#obeySignals(machine);
    // Loaded while the enclave boots: node:http and what needs it would delay the launch by a third.
    const { openRunnerServer } = await import("./runner-server.ts");
    owned.use(
      await openRunnerServer({
        path: paths.runnerSocket,
        record: () => keeper.current,
        stop: (reason, timeoutMs) => this.#askStop(machine, reason, timeoutMs),
        network,
      }),
    );
    const following = this.#follow(machine, logs, ended.signal);
    const exit = await machine.exited;
    await Promise.race([
      following.drained,
      new Promise((resolve) => setTimeout(resolve, FOLLOWER_END_MS).unref()),
    ]);
    ended.abort();
    await Promise.all([following.done, keepConsole]);
    return exit;
  }

  async #openMachine(signal: AbortSignal): Promise<Machine> {
    const { request, paths, log } = this.#options;
    const machine = await openMachine(request, paths, signal);
    const receive = (line: InitLine): void =>
      this.#know(line.kind === "ready" ? { ready: true } : { end: line });
    await machine.onConnect(VSOCK_PORT.heartbeat, answerHeartbeat);
    await machine.onConnect(VSOCK_PORT.initReport, (socket) => void receiveInitLine(socket, receive, log));
    return machine;
  }

  /** Only images that say `attestation: development` ever dial it. */
  async #openNsm(machine: Machine, signal: AbortSignal): Promise<void> {
    const { record, registers, authority } = this.#options.request;
    if (record.attestation !== "development") return;
    const { name, createdAt } = record;
    const { log } = this.#options;
    const nsm = new DevelopmentNsmSide({ name, createdAt, authority, registers, log, signal });
    await machine.onConnect(VSOCK_PORT.developmentNsm, (socket) => nsm.accept(socket));
  }

  async #openNetwork(machine: Machine, signal: AbortSignal): Promise<NetworkSide> {
    const { request, keeper, log } = this.#options;
    await using opening = new AsyncDisposableStack();
    const network = opening.use(
      await NetworkSide.open({
        ports: request.ports,
        egress: request.egress,
        log,
        attestationPort: request.attestationPort,
        dialAttestation: async (deadline) => await machine.connect(VSOCK_PORT.attestation, deadline),
        dialIngress: async (deadline) => await machine.connect(VSOCK_PORT.ingress, deadline),
        onPorts: (ports, attestationPort) => keeper.update({ ports, attestationPort }),
        signal,
      }),
    );
    await machine.onConnect(VSOCK_PORT.egress, (socket) => network.acceptEgress(socket));
    opening.move();
    return network;
  }

  /** Follows the enclave; `drained` settles when its log stream has ended by itself. */
  #follow(
    machine: Machine,
    logs: LogWriter,
    signal: AbortSignal,
  ): { done: Promise<void>; drained: Promise<unknown> } {
    const drained = Promise.withResolvers<void>();
    if (!this.#facts.tellsStatus) return { done: Promise.resolve(), drained: Promise.resolve() };
    const follow = async (): Promise<void> => {
      const { followEnclave } = await import("./control-follower.ts");
      await followEnclave(options);
    };
    const options: FollowerOptions = {
      dial: async (deadline) => await machine.connect(VSOCK_PORT.control, deadline),
      signal,
      log: this.#options.log,
      shipsLogs: true,
      onStatus: (status) => this.#know({ status }),
      onLogs: async (entries) => await logs.write(entries),
      onLogsOpen: () => this.#logsOpen.resolve(),
      onLogsEnd: () => {
        if (this.#facts.stopAsked || this.#facts.end !== undefined) drained.resolve();
      },
    };
    return { done: follow(), drained: drained.promise };
  }

  async #keepConsole(machine: Machine, logs: LogWriter): Promise<void> {
    const gatherer = new LineGatherer();
    for await (const chunk of machine.console) {
      const entries = gatherer
        .add(Buffer.from(chunk))
        .map((line) => ({ time: Date.now(), service: "console", stream: "stderr" as const, line }));
      await logs
        .write(entries)
        .catch((error: unknown) =>
          this.#options.log.warn("a log cannot be written", { reason: String(error) }),
        );
    }
  }

  /** Also those that came before the machine was there to be stopped. */
  #obeySignals(machine: Machine): void {
    const { stop, kill } = this.#options;
    const onStop = (): void => {
      this.#askStop(machine, typeof stop.reason === "string" ? stop.reason : undefined);
    };
    const onKill = (): void => void machine.stop(0);
    stop.addEventListener("abort", onStop, { once: true });
    kill.addEventListener("abort", onKill, { once: true });
    if (stop.aborted) onStop();
    if (kill.aborted) onKill();
  }

  /** Asks once; the machine ends in order or is killed after the time that its services may take. */
  #askStop(machine: Machine, failure: string | undefined, timeoutMs?: number): void {
    const { stopTimeoutMs } = this.#options.request;
    if (this.#facts.stopAsked) {
      // Asked again, somebody has become impatient.
      if (timeoutMs !== undefined) void machine.stop(timeoutMs);
      return;
    }
    this.#failure = failure;
    this.#network?.drain();
    this.#know({ stopAsked: true });
    void this.#stopMachine(machine, Math.min(stopTimeoutMs, timeoutMs ?? stopTimeoutMs));
  }

  async #stopMachine(machine: Machine, graceMs: number): Promise<void> {
    const waitMs = Math.min(LOGS_OPEN_MS, graceMs);
    if (this.#facts.status !== undefined)
      await Promise.race([this.#logsOpen.promise, delay(waitMs, undefined, { ref: false })]);
    await machine.stop(graceMs);
  }

  #know(news: Partial<EnclaveFacts>): void {
    const facts = { ...this.#facts, ...news };
    const healthy = facts.ready && facts.status !== undefined && facts.status.services.every(isSettled);
    this.#facts = { ...facts, wasHealthy: facts.wasHealthy || healthy };
    const { status } = this.#facts;
    const told: Partial<EnclaveRecord> =
      status === undefined
        ? {}
        : {
            isolated: status.isolated,
            overridden: status.overridden,
            services: status.services,
            supervisor: { restarts: status.supervisor.restarts },
            gateway: status.gateway,
            attestationServer: status.attestationServer,
          };
    this.#options.keeper.update({ ...told, ...describeCondition(this.#facts), ...this.#endedServices() });
  }

  /** When the machine is gone no service has a process. */
  #endedServices(): Partial<EnclaveRecord> {
    if (this.#facts.exit === undefined) return {};
    const services = this.#options.keeper.current.services;
    return {
      services: services.map((service) => ({ ...service, pid: null, state: "stopped", health: "none" })),
    };
  }
}

/** @throws E_BACKEND_LIMITS */
function assertLimits({ limits }: Machine): void {
  const broken = limits.find((limit) => !limit.enforced);
  if (broken === undefined) return;
  throw new KitError(
    "E_BACKEND_LIMITS",
    `${broken.name} of the enclave cannot be limited: ${broken.why ?? ""}`,
  );
}
