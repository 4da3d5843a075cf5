/** A supervisor with its gateway as real processes, without namespaces. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { request, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";

import type { EnclaveStatus, LogEntry, LogGap, ServiceStatus } from "../../wire/control.ts";
import type { EnclaveConfig } from "../../wire/enclave-config.ts";
import { GATEWAY_ID, RA_SERVER_ID } from "../../wire/runtime-layout.ts";
import { ROOT } from "../structure/source-files.ts";
import { eventually } from "./eventually.ts";

export const SERVICE_EXEC = join(ROOT, "native", "build", "service-exec");
/** As in the image. */
const NODE_FLAGS = ["--max-semi-space-size=2"];
const IS_ROOT = process.getuid?.() === 0;
/** A supervisor is always root where it runs; an ordinary user makes it that in a user namespace of its own. */
const AS_ROOT = IS_ROOT ? [] : [join(ROOT, "native", "build", "launcher"), "userns", "--map", "self", "--"];

export interface SupervisorFixture {
  /** Raw bytes instead of the configuration. */
  readonly configText?: string;
  readonly arguments?: readonly string[];
  /** Text of the uid map; a full one for root unless told. */
  readonly uidMap?: string;
  readonly gateway?: string;
  /** Program of the attestation server; one that only lives unless told. */
  readonly raServer?: string;
  /** False: descriptor 3 is no directory. */
  readonly vsock?: boolean;
  /** Mode of the vsock directory; 0755 unless told. */
  readonly vsockMode?: number;
}

export class RunningSupervisor implements AsyncDisposable {
  readonly directory: string;
  readonly process: ChildProcess;
  readonly exited: Promise<number | string>;
  /** What was said to init so far. */
  notices = "";
  stderr = "";

  private constructor(directory: string, child: ChildProcess) {
    this.directory = directory;
    this.process = child;
    this.exited = once(child, "exit").then(([code, signal]) => (code as number | null) ?? String(signal));
    const notify = child.stdio[4];
    if (notify instanceof Readable)
      notify.on("data", (chunk) => (this.notices += String(chunk).replaceAll("alive\n", "")));
    child.stderr?.on("data", (chunk) => (this.stderr += String(chunk)));
  }

  static async start(config: EnclaveConfig, fixture: SupervisorFixture = {}): Promise<RunningSupervisor> {
    const directory = await mkdtemp(join(tmpdir(), "supervisor-"));
    await chmod(directory, 0o755);
    const vsock = join(directory, "vsock");
    await mkdir(vsock);
    await chmod(vsock, fixture.vsockMode ?? 0o755);
    const layout = {
      config: join(directory, "enclave.json"),
      serviceExec: SERVICE_EXEC,
      node: process.execPath,
      loader: join(directory, "no-loader"),
      libraries: directory,
      gateway: fixture.gateway ?? join(ROOT, "enclave", "gateway-main.ts"),
      raServer: fixture.raServer ?? join(ROOT, "test", "fixtures", "enclave", "quiet-server.mjs"),
      nsmDevice: join(directory, "no-nsm-device"),
      nsm: join(directory, "no-nsm"),
      logDirectory: join(directory, "log"),
      pipeDirectory: join(directory, "output"),
      archive: join(ROOT, "archive", "archive-main.ts"),
      runDirectory: join(directory, "run"),
      streamDirectory: join(directory, "streams"),
      controlDirectory: join(directory, "control"),
      processStatus: "/proc/self/status",
      uidMap: join(directory, "uid_map"),
      cgroups: join(directory, "no-cgroups"),
      lowPorts: join(directory, "low_ports"),
      filterDirectory: join(directory, "seccomp"),
      gatewayId: GATEWAY_ID,
      raServerId: RA_SERVER_ID,
    };
    await writeFile(layout.config, fixture.configText ?? JSON.stringify(config));
    await writeFile(layout.uidMap, fixture.uidMap ?? (IS_ROOT ? "0 0 4294967295\n" : "0 1000 1\n"));
    await using folder = await open(vsock);
    const script = join(ROOT, "test", "fixtures", "enclave", "supervisor-fixture.ts");
    const words = [
      ...NODE_FLAGS,
      script,
      JSON.stringify(layout),
      ...(fixture.arguments ?? ["--generation", "1"]),
    ];
    const [program = "", ...rest] = [...AS_ROOT, process.execPath, ...words];
    const child = spawn(program, rest, {
      stdio: ["pipe", "ignore", "pipe", fixture.vsock === false ? "ignore" : folder.fd, "pipe"],
      env: {},
    });
    return new RunningSupervisor(directory, child);
  }

  static async startReady(
    config: EnclaveConfig,
    fixture: SupervisorFixture = {},
  ): Promise<RunningSupervisor> {
    const supervisor = await RunningSupervisor.start(config, fixture);
    await eventually("ready", () => supervisor.notices.includes("ready\n"));
    return supervisor;
  }

  socketPath(port: number): string {
    return join(this.directory, "vsock", "guest", String(port));
  }

  async request(method: string, path: string, body?: string): Promise<{ status: number; text: string }> {
    const response = await this.open(method, path, body);
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    return { status: response.statusCode ?? 0, text };
  }

  async open(method: string, path: string, body?: string): Promise<IncomingMessage> {
    const call = request({ socketPath: this.socketPath(9001), method, path, agent: false });
    call.end(body);
    const [response] = (await once(call, "response")) as [IncomingMessage];
    return response;
  }

  async status(): Promise<EnclaveStatus> {
    return JSON.parse((await this.request("GET", "/v1/status")).text) as EnclaveStatus;
  }

  async service(name: string): Promise<ServiceStatus> {
    const service = (await this.status()).services.find((each) => each.name === name);
    if (service === undefined) throw new Error(`no ${name} in the status`);
    return service;
  }

  async untilState(name: string, state: ServiceStatus["state"]): Promise<ServiceStatus> {
    return eventually(`${name} ${state}`, async () => {
      const service = await this.service(name);
      return service.state === state ? service : undefined;
    });
  }

  /** Lines without the gaps between them. */
  async lines(query = ""): Promise<string[]> {
    const { text } = await this.request("GET", `/v1/logs${query}`);
    const values = text.split("\n").filter((line) => line !== "");
    return values.flatMap((line) => {
      const value = JSON.parse(line) as LogEntry | LogGap;
      return "line" in value ? [value.line] : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 15_000);
    await this.exited;
    clearTimeout(timer);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Values of an NDJSON answer as they come. */
export async function* ndjson<T>(response: IncomingMessage): AsyncGenerator<T> {
  for await (const line of createInterface({ input: response })) yield JSON.parse(line) as T;
}
