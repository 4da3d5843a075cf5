/** A state directory in which an enclave seems to run: its record is live as long as this process, its gateway is a fake. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { createLog } from "../../core/log.ts";
import { identifyProcess } from "../../core/process-identity.ts";
import { NetworkSide } from "../../host/runner/network-side.ts";
import { openRunnerServer } from "../../host/runner/runner-server.ts";
import { enclavePaths } from "../../host/state/enclave-paths.ts";
import type { EnclaveRecord } from "../../host/state/enclave-record.ts";
import { writeRecord } from "../../host/state/record-store.ts";
import { NO_EGRESS } from "../../wire/egress-policy.ts";
import { FakeGateway } from "../control/fake-gateway.ts";
import { type CommandResult, runCommand, ROOT } from "../e2e/testbed.ts";
import { recordOf } from "./record-of.ts";

export class FakeEnclave implements AsyncDisposable {
  readonly stateDir: string;
  readonly gateway: FakeGateway;

  readonly #runner = new AsyncDisposableStack();

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
    await enclave.#openRunner();
    return enclave;
  }

  /** What a runner answers, for an enclave without ports and rules. */
  async #openRunner(): Promise<void> {
    const network = this.#runner.use(
      await NetworkSide.open({
        attestationPort: null,
        dialAttestation: async () => await Promise.reject(new Error("nowhere")),
        ports: [],
        egress: NO_EGRESS,
        log: createLog({ write: () => undefined, now: () => 0 }),
        dialIngress: () => Promise.reject(new Error("no machine")),
        onPorts: () => undefined,
        signal: new AbortController().signal,
      }),
    );
    const path = enclavePaths(this.stateDir, "fake").runnerSocket;
    const record = (): EnclaveRecord => recordOf("fake", {});
    this.#runner.use(await openRunnerServer({ path, record, stop: () => undefined, network }));
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
    await this.#runner.disposeAsync();
    await this.gateway[Symbol.asyncDispose]();
    await rm(this.stateDir, { recursive: true });
  }
}
