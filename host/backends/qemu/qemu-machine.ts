/** A machine of the qemu backend: the very image in a virtual machine, with our own vsock device. */
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";

import { withDeadline } from "../../../core/deadline.ts";
import { KitError } from "../../../core/errors.ts";
import { loadAddon } from "../../../native/addon.ts";
import type { LimitStatus } from "../../../wire/control.ts";
import { VSOCK_PORT } from "../../../wire/ports.ts";
import type { Machine, MachineExit, MachineSocket } from "../backend.ts";
import { checkSocketPath, openToolSocket, openVsockFolder } from "../tool-socket.ts";
import { explainEnd } from "./machine-end.ts";
import type { QemuPlan } from "./qemu-plan.ts";
import { QemuProcess } from "./qemu-process.ts";
import { openVsockDevice, type VsockDevice } from "./vsock-device/vsock-device.ts";

/** What the guest is called; 0 to 3 have meanings, and 3 is what AWS's init takes for the parent. */
const GUEST_CID = 16;
const DEVICE_SOCKET = "device.sock";
const DIAL_TIMEOUT_MS = 5_000;
/** From the start of QEMU to init's heartbeat. TCG is some twenty times slower than a CPU. */
const HEARTBEAT_TIMEOUT_MS = { kvm: 30_000, tcg: 180_000 } as const;
const POWER_OFF_RETRY_MS = 250;

export interface QemuMachineOptions {
  readonly plan: QemuPlan;
  /** Made and removed by the machine. */
  readonly vsockDirectory: string;
  /** Asks the enclave to end in order, where it can be asked: its control API is open in development alone. */
  readonly powerOff: ((machine: Machine, signal: AbortSignal) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
  /** From the start of QEMU to init's heartbeat; enough for any machine unless told. */
  readonly heartbeatTimeoutMs?: number;
}

export class QemuMachine implements Machine {
  readonly limits: readonly LimitStatus[];
  readonly console: Readable;
  readonly exited: Promise<MachineExit>;
  readonly #options: QemuMachineOptions;
  readonly #owned: AsyncDisposableStack;
  readonly #device: VsockDevice;
  readonly #process: QemuProcess;
  #stopAsked = false;
  #killedFor: KitError | undefined;
  #hasBeat = false;

  private constructor(options: QemuMachineOptions, owned: AsyncDisposableStack, device: VsockDevice) {
    const { cpus, memoryMib } = options.plan;
    this.#options = options;
    this.#owned = owned;
    this.#device = device;
    this.#process = new QemuProcess(options.plan, join(options.vsockDirectory, DEVICE_SOCKET));
    this.console = this.#process.console;
    this.exited = this.#awaitEnd();
    const held = { enforced: true, why: null };
    this.limits = [
      { name: "memory", value: memoryMib * 1024 ** 2, ...held },
      { name: "cpus", value: cpus, ...held },
    ];
  }

  /** @throws E_HOST_STATE_PATH, E_NATIVE_ADDON */
  static async open(options: QemuMachineOptions): Promise<QemuMachine> {
    await using opening = new AsyncDisposableStack();
    const { vsockDirectory, signal, plan } = options;
    checkSocketPath(join(vsockDirectory, DEVICE_SOCKET));
    opening.use(await openVsockFolder(vsockDirectory));
    let fail: (error: KitError) => void = () => undefined;
    const device = opening.use(
      await openVsockDevice({
        socketPath: join(vsockDirectory, DEVICE_SOCKET),
        addon: loadAddon(plan.addon),
        guestCid: GUEST_CID,
        // A guest that breaks its rings has no vsock any more.
        onFault: (error) => fail(error),
      }),
    );
    const dial = async (port: number, deadline: AbortSignal): Promise<MachineSocket> =>
      await device.connect(port, deadline);
    opening.use(await openToolSocket(vsockDirectory, { dial, signal }));
    const machine = new QemuMachine(options, opening.move(), device);
    fail = (error) => machine.#kill(error);
    return machine;
  }

  async onConnect(port: number, handler: (socket: MachineSocket) => void): Promise<void> {
    const hear = (socket: MachineSocket): void => {
      if (port === VSOCK_PORT.heartbeat) this.#hasBeat = true;
      handler(socket);
    };
    await Promise.resolve(this.#device.onConnect(port, hear));
  }

  async connect(port: number, signal: AbortSignal): Promise<MachineSocket> {
    return await this.#device.connect(port, withDeadline(signal, DIAL_TIMEOUT_MS));
  }

  async start(): Promise<void> {
    if (this.#killedFor !== undefined) throw this.#killedFor;
    await this.#process.start();
    const { accelerator } = this.#options.plan;
    const timeoutMs = this.#options.heartbeatTimeoutMs ?? HEARTBEAT_TIMEOUT_MS[accelerator];
    const timer = setTimeout(() => {
      if (this.#hasBeat) return;
      const message = `no heartbeat within ${timeoutMs / 1000} s of the start (${accelerator})`;
      this.#kill(new KitError("E_QEMU_NO_HEARTBEAT", message));
    }, timeoutMs);
    void this.exited.finally(() => clearTimeout(timer));
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopAsked = true;
    if (!this.#process.isRunning) return;
    const grace = new AbortController();
    const timer = setTimeout(() => grace.abort(), graceMs);
    void this.exited.finally(() => grace.abort());
    if (graceMs > 0) await this.#askToPowerOff(grace.signal);
    if (this.#options.powerOff === undefined || graceMs === 0) this.#process.kill();
    grace.signal.addEventListener("abort", () => this.#process.kill(), { once: true });
    if (grace.signal.aborted) this.#process.kill();
    await this.exited;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.isRunning) {
      this.#stopAsked = true;
      this.#process.kill();
      await this.exited;
    }
    await this.#owned.disposeAsync();
  }

  /** Until the enclave has taken it: early in the boot nobody listens yet. */
  async #askToPowerOff(signal: AbortSignal): Promise<void> {
    const { powerOff } = this.#options;
    if (powerOff === undefined) return;
    while (!signal.aborted) {
      try {
        return await powerOff(this, signal);
      } catch {
        await delay(POWER_OFF_RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #kill(reason: KitError): void {
    this.#killedFor ??= reason;
    this.#process.kill();
  }

  async #awaitEnd(): Promise<MachineExit> {
    const exit = await this.#process.exited;
    return explainEnd({
      ...exit,
      console: this.#process.tail.lines,
      killedFor: this.#killedFor,
      stopAsked: this.#stopAsked,
      memoryMib: this.#options.plan.memoryMib,
    });
  }
}
