/** A state directory in which an enclave seems to run: its record is live as long as this process, its gateway is a fake. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { identifyProcess } from "../../core/process-identity.ts";
import { enclavePaths } from "../../host/state/enclave-paths.ts";
import type { EnclaveRecord } from "../../host/state/enclave-record.ts";
import { writeRecord } from "../../host/state/record-store.ts";
import { FakeGateway } from "../control/fake-gateway.ts";
import { type CommandResult, runCommand, ROOT } from "../e2e/testbed.ts";
import { recordOf } from "./record-of.ts";

export class FakeEnclave implements AsyncDisposable {
  readonly stateDir: string;
  readonly gateway: FakeGateway;

  private constructor(stateDir: string, gateway: FakeGateway) {
    this.stateDir = stateDir;
    this.gateway = gateway;
  }

  static async open(): Promise<FakeEnclave> {
    const stateDir = await mkdtemp(join(tmpdir(), "fe-"));
    const guest = join(enclavePaths(stateDir, "fake").vsock, "guest");
    await mkdir(guest, { recursive: true });
    const enclave = new FakeEnclave(stateDir, await FakeGateway.open(join(guest, "9001")));
    await enclave.record("fake", {});
    return enclave;
  }

  /** Writes the record of an enclave whose runner is this process. */
  async record(name: string, change: Partial<EnclaveRecord>): Promise<void> {
    const identity = await identifyProcess(process.pid);
    const runner = { pid: process.pid, startTicks: identity?.startTicks ?? null };
    await mkdir(enclavePaths(this.stateDir, name).directory, { recursive: true });
    await writeRecord(this.stateDir, recordOf(name, { runner, ...change }));
  }

  commandLine(program: "pipeline" | "initctl", words: readonly string[]): [string, ...string[]] {
    return [process.execPath, join(ROOT, "bin", `${program}.js`), "--state-dir", this.stateDir, ...words];
  }

  async pipeline(...words: string[]): Promise<CommandResult> {
    return await runCommand(this.commandLine("pipeline", words));
  }

  /** With --enclave. */
  async initctl(...words: string[]): Promise<CommandResult> {
    return await runCommand(this.commandLine("initctl", [...words, "--enclave", "fake"]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway[Symbol.asyncDispose]();
    await rm(this.stateDir, { recursive: true });
  }
}
