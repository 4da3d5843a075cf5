/** The attestation server as the supervisor has it: a process of its own, and what it last said about itself. */
import type { KitError } from "../core/errors.ts";
import {
  type AttestationReport,
  type AttestationServerSettings,
  FIRST_REPORT,
} from "../wire/attestation-server.ts";
import type { AttestationStatus } from "../wire/control.ts";
import { serveAttestation } from "./attestation-channel.ts";
import type { EventStore } from "./event-store.ts";
import { type OwnCommand, OwnProcess, type OwnProcessOptions } from "./own-process.ts";

export interface AttestationServerOptions extends Pick<OwnProcessOptions, "clock" | "random" | "logs"> {
  readonly command: OwnCommand;
  readonly settings: AttestationServerSettings;
  readonly events: EventStore;
}

export class AttestationServer {
  readonly #process: OwnProcess;
  readonly #events: EventStore;
  #report: AttestationReport = FIRST_REPORT;

  constructor({ command, settings, events, ...shared }: AttestationServerOptions) {
    this.#events = events;
    this.#process = new OwnProcess({
      ...command,
      ...shared,
      events,
      name: "ra-server",
      serve: (stream, onViolation: (error: KitError) => void) => {
        this.#report = { ...FIRST_REPORT, clockJumps: this.#report.clockJumps };
        serveAttestation(stream, {
          settings,
          onAlive: () => this.#process.feedWatchdog(),
          onReport: (report) => this.#learn(report),
          onViolation,
        });
      },
    });
  }

  start(): void {
    this.#process.start();
  }

  async stop(graceMs: number): Promise<void> {
    await this.#process.stop(graceMs);
  }

  status(): AttestationStatus {
    return { ...this.#process.status(), ...this.#report };
  }

  #learn(report: AttestationReport): void {
    const { state, reason, clockJumps } = report;
    const before = this.#report;
    this.#report = report;
    if (state !== before.state || reason?.code !== before.reason?.code)
      this.#events.add(
        null,
        `attestation ${state}${reason === null ? "" : `: ${reason.code}: ${reason.message}`}`,
      );
    if (clockJumps > before.clockJumps)
      this.#events.add(null, "the clock jumped against that of the documents");
  }
}
