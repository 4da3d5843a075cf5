/**
 * /dev/nsm of a development enclave, for services with `nsm: true`: a program of its own (native/nsm-device) that makes
 * the device by CUSE and asks the host. On the hardware the kernel has the device, and nothing is started.
 */
import { access } from "node:fs/promises";

import { isErrno } from "../core/errors.ts";
import type { ServiceConfig } from "../wire/enclave-config.ts";
import { type OwnCommand, OwnProcess, type OwnProcessOptions } from "./own-process.ts";

export interface NsmDeviceOptions extends Pick<OwnProcessOptions, "clock" | "random" | "events" | "logs"> {
  /** Null where nothing is to be started: the device is the kernel's, or cannot be had. */
  readonly command: OwnCommand | null;
  /** /dev/nsm */
  readonly path: string;
}

/** Services wait so long for their device. */
const READY_MS = 10_000;

export class NsmDevice {
  readonly #options: NsmDeviceOptions;
  readonly #process: OwnProcess | undefined;
  readonly #ready = Promise.withResolvers<void>();
  #isStarted = false;

  constructor(options: NsmDeviceOptions) {
    this.#options = options;
    const { command, path: _path, ...shared } = options;
    if (command === null) return;
    this.#process = new OwnProcess({
      ...command,
      ...shared,
      name: "nsm-device",
      isWatched: false,
      // It says one line, when the device is there.
      serve: (stream) => stream.on("error", () => stream.destroy()).once("data", () => this.#ready.resolve()),
    });
  }

  /** Starts it for those services that may open it, and waits for a while. One without its device fails by itself. */
  async prepareFor(services: readonly ServiceConfig[]): Promise<void> {
    if (!services.some(({ nsm }) => nsm === true)) return;
    if (this.#process === undefined) return await this.#lookForDevice();
    if (!this.#isStarted) this.#process.start();
    this.#isStarted = true;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(READY_MS, resolve);
    await Promise.race([this.#ready.promise, late]);
    cancel();
  }

  async stop(graceMs: number): Promise<void> {
    await this.#process?.stop(graceMs);
  }

  async #lookForDevice(): Promise<void> {
    const { path, events } = this.#options;
    try {
      await access(path);
    } catch (error) {
      if (!isErrno(error)) throw error;
      events.add(null, `services with nsm: true will find no ${path} (${error.code ?? ""})`);
    }
  }
}
