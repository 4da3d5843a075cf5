/**
 * A machine of the nitro backend: an enclave on the hardware, driven through nitro-cli. Nothing of it is a child of this
 * process, so its end shows in describe-enclaves only, and an enclave that was started must be terminated.
 */
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";

import { withDeadline } from "../../../core/deadline.ts";
import { KitError, toKitError } from "../../../core/errors.ts";
import type { LimitStatus } from "../../../wire/control.ts";
import { VSOCK_PORT } from "../../../wire/ports.ts";
import type { Machine, MachineExit, MachineSocket } from "../backend.ts";
import { openToolSocket, openVsockFolder } from "../tool-socket.ts";
import { refuseDebugOfProduction } from "./confidentiality.ts";
import { terminate } from "./enclave-end.ts";
import { type Launched, type LaunchOptions, launchEnclave } from "./launch-enclave.ts";
import { NitroCli } from "./nitro-cli.ts";
import { NitroConsole } from "./nitro-console.ts";
import type { NitroPlan } from "./nitro-plan.ts";
import { type NitroDialer, NitroPorts } from "./nitro-ports.ts";
import { watchEnclave } from "./watch-enclave.ts";

const DIAL_TIMEOUT_MS = 5_000;
const DISPOSE_TIMEOUT_MS = 120_000;
const STOP_RETRY_MS = 5_000;
const POWER_OFF_RETRY_MS = 250;
const POLL_MS = 1_000;

export interface NitroMachineOptions extends LaunchOptions {
  readonly plan: NitroPlan;
  readonly dialer: NitroDialer;
  /** For the socket on which tools of this host ask for ports of the enclave; made and removed by the machine. */
  readonly vsockDirectory: string;
  /** Asks the enclave to end in order, where it can be asked; without it a stop terminates at once. */
  readonly powerOff: ((machine: Machine, signal: AbortSignal) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
  /** Time between looks at describe-enclaves. */
  readonly pollMs?: number;
}

/** Nothing runs yet. @throws E_NITRO_DEBUG, E_HOST_STATE_PATH */
export async function openNitroMachine(options: NitroMachineOptions): Promise<Machine> {
  const { plan, vsockDirectory: directory, signal } = options;
  refuseDebugOfProduction(plan.mode, plan.debug);
  const machine = new NitroMachine(options);
  const dial = async (port: number, deadline: AbortSignal): Promise<MachineSocket> =>
    await machine.connect(port, deadline);
  await using opening = new AsyncDisposableStack();
  opening.use(machine);
  machine.own(await openVsockFolder(directory));
  machine.own(await openToolSocket(directory, { dial, signal }));
  opening.move();
  return machine;
}

class NitroMachine implements Machine {
  readonly limits: readonly LimitStatus[];
  readonly console: Readable;
  readonly exited: Promise<MachineExit>;
  readonly #options: NitroMachineOptions;
  readonly #cli: NitroCli;
  readonly #console: NitroConsole;
  readonly #ports: NitroPorts;
  readonly #owned = new AsyncDisposableStack();
  readonly #exit = Promise.withResolvers<MachineExit>();
  /** Aborts when the machine is disposed of. */
  readonly #closed = new AbortController();
  /** Aborts when it is stopped before it has started. */
  readonly #givenUp = new AbortController();
  #launch: Promise<Launched> | undefined;
  #enclave: Launched | undefined;
  #isGone = false;
  #stopAsked = false;
  #killed = false;

  constructor(options: NitroMachineOptions) {
    this.#options = options;
    this.#cli = new NitroCli(options.plan);
    this.#console = this.#owned.use(new NitroConsole(options.plan.debug));
    this.#ports = this.#owned.use(new NitroPorts(options.dialer));
    this.limits = describeLimits(options.plan);
    this.console = this.#console.output;
    this.exited = this.#exit.promise;
  }

  /** To be closed with the machine. */
  own(resource: AsyncDisposable): void {
    this.#owned.use(resource);
  }

  /** The heartbeat is nitro-cli's own to answer: it listens on that port while it launches. */
  async onConnect(port: number, handler: (socket: MachineSocket) => void): Promise<void> {
    if (port !== VSOCK_PORT.heartbeat) await this.#ports.listen(port, handler);
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#launch !== undefined) throw new TypeError("the machine was started before");
    const either = AbortSignal.any([signal, this.#closed.signal, this.#givenUp.signal]);
    this.#launch = launchEnclave(this.#cli, this.#options, either);
    const enclave = await this.#launch;
    this.#enclave = enclave;
    this.#ports.admit(enclave.cid);
    this.#console.follow(this.#cli, enclave.id);
    void this.#watch(enclave);
  }

  async connect(port: number, signal: AbortSignal): Promise<MachineSocket> {
    const cid = this.#isGone ? undefined : this.#enclave?.cid;
    if (cid === undefined)
      throw new KitError("E_BACKEND_CONNECT", "the enclave does not run, so it does not listen");
    const deadline = withDeadline(signal, DIAL_TIMEOUT_MS);
    try {
      return await this.#options.dialer.connect(cid, port, deadline);
    } catch (error) {
      if (deadline.aborted) throw toKitError(deadline.reason);
      const message = `enclave ${this.#enclave?.id ?? ""} does not listen on vsock port ${port}`;
      throw new KitError("E_BACKEND_CONNECT", message, { cause: error });
    }
  }

  /** Never rejects: what nitro-cli refuses is said on the console and tried again until the enclave is gone. */
  async stop(graceMs: number): Promise<void> {
    const enclave = this.#enclave ?? (await this.#giveUpLaunch());
    if (enclave === undefined || this.#isGone) return;
    this.#stopAsked = true;
    if (graceMs > 0) await this.#powerOff(graceMs);
    while (!this.#isGone && !this.#closed.signal.aborted) {
      try {
        await this.#terminate(enclave, this.#closed.signal);
      } catch (error) {
        this.#console.note(toKitError(error).message);
        await Promise.race([this.exited, pause(STOP_RETRY_MS, this.#closed.signal)]);
      }
    }
  }

  /** @throws E_NITRO_LEFT if the enclave could not be ended */
  async [Symbol.asyncDispose](): Promise<void> {
    await using _owned = this.#owned;
    this.#closed.abort(new KitError("E_CANCELLED", "the enclave is being closed"));
    // A launch that failed has cleaned up after itself, and whoever started it has heard of it.
    const enclave = await this.#launch?.catch(() => undefined);
    if (enclave !== undefined && !this.#isGone)
      await this.#terminate(enclave, AbortSignal.timeout(DISPOSE_TIMEOUT_MS));
  }

  /** @returns the enclave if it came nevertheless */
  async #giveUpLaunch(): Promise<Launched | undefined> {
    if (this.#launch === undefined) return undefined;
    this.#givenUp.abort(new KitError("E_CANCELLED", "the enclave was stopped before it had started"));
    return await this.#launch.catch(() => undefined);
  }

  /** Asks until it is heard, for early in the boot nobody listens, and waits for the end. */
  async #powerOff(graceMs: number): Promise<void> {
    const { powerOff } = this.#options;
    if (powerOff === undefined) return;
    const over = new AbortController();
    const grace = AbortSignal.any([withDeadline(this.#closed.signal, graceMs), over.signal]);
    void this.exited.then(() => over.abort());
    while (!grace.aborted) {
      try {
        await powerOff(this, grace);
        return await pause(graceMs, grace);
      } catch {
        await pause(POWER_OFF_RETRY_MS, grace);
      }
    }
  }

  async #terminate({ id }: Launched, signal: AbortSignal): Promise<void> {
    this.#killed = true;
    await terminate(this.#cli, id, signal);
    this.#end();
  }

  async #watch({ id }: Launched): Promise<void> {
    const isGone = await watchEnclave(this.#cli, {
      id,
      pollMs: this.#options.pollMs ?? POLL_MS,
      signal: this.#closed.signal,
      onTrouble: (why) => this.#console.note(why),
    });
    if (isGone) this.#end(this.#findFault(id));
  }

  /** Only init can tell why the enclave ended; outside debug mode the hardware shows nothing else. */
  #findFault(id: string): KitError | undefined {
    if (this.#stopAsked) return undefined;
    const lastLines = this.#console.lastLines;
    const details = lastLines.length === 0 ? {} : { lastLines };
    return new KitError("E_NITRO_ENDED", `enclave ${id} is no longer there`, { details });
  }

  /** The watch may see before nitro-cli has said so that the enclave was terminated. */
  #end(error?: KitError): void {
    this.#isGone = true;
    if (this.#killed) this.#exit.resolve({ status: null, signal: "SIGKILL" });
    else this.#exit.resolve({ status: 0, signal: null, ...(error === undefined ? {} : { error }) });
  }
}

/** Ends early without an error. */
async function pause(waitMs: number, signal: AbortSignal): Promise<void> {
  await delay(waitMs, undefined, { signal }).catch(() => undefined);
}

/** The hardware keeps both. */
function describeLimits({ memoryBytes, cpus, cpuIds }: NitroPlan): LimitStatus[] {
  return [
    { name: "memory", value: memoryBytes, enforced: true, why: null },
    { name: "cpus", value: cpuIds?.length ?? cpus, enforced: true, why: null },
  ];
}
