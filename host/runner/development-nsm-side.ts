/** The development NSM of one enclave, in the place of the hypervisor's: made when the enclave first asks for it. */
import type { Duplex } from "node:stream";

import type { Log } from "../../core/log.ts";
import type { DevelopmentNsm } from "../../dev/development-nsm.ts";
import { measure } from "../../rbuilds/eif/measurements.ts";
import { developmentModuleId, readRegisters, type RegisterSource } from "../attestation/image-registers.ts";

export interface DevelopmentNsmSideOptions {
  readonly name: string;
  readonly createdAt: number;
  /** Folder of the authority. */
  readonly authority: string;
  readonly registers: RegisterSource;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** The attestation server and the device of the guest need one each; the rest is for those that break. */
const MAX_CONNECTIONS = 16;

export class DevelopmentNsmSide {
  readonly #options: DevelopmentNsmSideOptions;
  #nsm: Promise<DevelopmentNsm> | undefined;
  #serve: Promise<(socket: Duplex) => void> | undefined;
  #open = 0;

  constructor(options: DevelopmentNsmSideOptions) {
    this.#options = options;
  }

  /** One connection from the enclave. */
  accept(socket: Duplex): void {
    socket.on("error", () => socket.destroy());
    if (this.#open >= MAX_CONNECTIONS) return void socket.destroy();
    this.#open += 1;
    socket.once("close", () => (this.#open -= 1));
    void this.#serveLater(socket);
  }

  async #serveLater(socket: Duplex): Promise<void> {
    try {
      this.#serve ??= this.#load();
      const serve = await this.#serve;
      serve(socket);
    } catch (error) {
      this.#serve = undefined;
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log.error("the development NSM cannot be opened", { reason });
      socket.destroy();
    }
  }

  /** Loaded here: most of what a runner does needs none of it. */
  async #load(): Promise<(socket: Duplex) => void> {
    const { serveDevelopmentNsm } = await import("../../dev/nsm-server.ts");
    return serveDevelopmentNsm({ nsm: async () => await this.#openNsm(), signal: this.#options.signal });
  }

  async #openNsm(): Promise<DevelopmentNsm> {
    this.#nsm ??= this.#makeNsm();
    try {
      return await this.#nsm;
    } catch (error) {
      this.#nsm = undefined;
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log.error("no development NSM", { reason });
      throw error;
    }
  }

  async #makeNsm(): Promise<DevelopmentNsm> {
    const { openDevelopmentAuthority } = await import("../../dev/development-authority.ts");
    const { DevelopmentNsm } = await import("../../dev/development-nsm.ts");
    const { name, createdAt, authority: directory, registers, signal } = this.#options;
    const nowMs = (): number => Date.now();
    const authority = await openDevelopmentAuthority({ directory, nowMs });
    const moduleId = developmentModuleId(name, createdAt);
    const measured = await readRegisters(registers, signal);
    const all = new Map([...measured, [4, measure(Buffer.from(moduleId))] as const]);
    const measurements = new Map([...all].map(([index, hex]) => [index, Buffer.from(hex, "hex")]));
    return new DevelopmentNsm({ authority, measurements, moduleId, nowMs, form: "indefinite" });
  }
}
