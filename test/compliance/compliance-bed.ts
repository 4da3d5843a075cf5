/** One enclave on one backend, driven by the real command line as an operator would. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { z } from "zod";

import type { EnclaveStatus } from "../../wire/control.ts";
import { enclavePaths, enclavesFolder } from "../../host/state/enclave-paths.ts";
import { leftovers } from "../e2e/enclave-processes.ts";
import { type CommandResult, openTestbed, ROOT, runCommand, type Status, StatusJson, type Testbed, waitFor } from "../e2e/testbed.ts"; // prettier-ignore
import type { BackendName } from "./backends.ts";

/** The first image of a machine may compile a kernel. */
export const OPEN_TIMEOUT_MS = 2_400_000;
/** A guest without hardware virtualisation is ten times slower than the host. */
export const WAIT_MS = 90_000;
export const TEST_TIMEOUT_MS = 180_000;

/** What stays of an enclave until `down`: its record, its logs, and an empty folder. */
const KEPT = /^(record\.json|request\.json|runner\.log|scratch|logs(\/[^/]+\.ndjson)?)$/;
/** After its record has told the end. */
const END_MS = 2_000;
const FIXTURES = join(ROOT, "test", "fixtures");

const ServiceRun = z.object({ status: z.number().nullable(), output: z.string() });

export type ServiceState = Status["services"][number];

export class ComplianceEnclave implements AsyncDisposable {
  readonly backend: BackendName;
  readonly name: string;
  readonly bed: Testbed;
  /** Copy of the fixture. */
  readonly directory: string;
  #status: Status | undefined;

  constructor(backend: BackendName, name: string, { bed, directory }: { bed: Testbed; directory: string }) {
    this.backend = backend;
    this.name = name;
    this.bed = bed;
    this.directory = directory;
  }

  get file(): string {
    return join(this.directory, "enclave.yaml");
  }

  /** `pipeline up -d`, whatever comes of it. */
  async tryUp(): Promise<CommandResult> {
    const words = ["up", this.file, "-d", "--json", "--backend", this.backend, "--timeout", "240s"];
    return await runCommand(this.bed.commandLine(words), {}, OPEN_TIMEOUT_MS);
  }

  async up(): Promise<Status> {
    const { status, stdout, stderr } = await this.tryUp();
    if (status !== 0) throw new Error(`up: exit ${status}\n${stdout}\n${stderr}`);
    this.#status = StatusJson.parse(JSON.parse(stdout));
    return this.#status;
  }

  async run(...words: string[]): Promise<CommandResult> {
    return await this.bed.run(...words);
  }

  /** Standard output of a shell script that root of the enclave runs, and that ends well. */
  async sh(script: string): Promise<string> {
    return await this.bed.succeed("exec", this.name, "--", "sh", "-c", script);
  }

  async initctl(...words: string[]): Promise<string> {
    return await this.bed.initctl(...words, "--enclave", this.name);
  }

  async status(): Promise<Status> {
    return await this.bed.status(this.name);
  }

  /** What the enclave itself tells. */
  async inside(): Promise<EnclaveStatus> {
    return await this.bed.initctlStatus(this.name);
  }

  async service(name: string): Promise<ServiceState> {
    const found = (await this.status()).services.find((one) => one.name === name);
    if (found === undefined) throw new Error(`no service ${name}`);
    return found;
  }

  /** Waits until the status of a service passes `check`. */
  async untilService(name: string, check: (service: ServiceState) => boolean): Promise<ServiceState> {
    let last: ServiceState | undefined;
    const attempt = async (): Promise<ServiceState | undefined> => {
      last = await this.service(name);
      return check(last) ? last : undefined;
    };
    return await waitFor(`service ${name}`, attempt, WAIT_MS).catch((error: unknown) => {
      throw new Error(`service ${name} stays ${JSON.stringify(last)}`, { cause: error });
    });
  }

  /** Waits until the record of the enclave is in one of the states. */
  async untilState(...states: string[]): Promise<Status> {
    return await waitFor(
      `state ${states.join(" or ")}`,
      async () => (await this.bed.ps()).find((one) => states.includes(one.state)),
      WAIT_MS,
    );
  }

  /** Host port that leads to a port of a service. */
  hostPort(servicePort: number): number {
    const found = this.#status?.ports.find((one) => one.servicePort === servicePort);
    if (found === undefined) throw new Error(`port ${servicePort} is not published`);
    return found.hostPort;
  }

  /** A connection to a published port, both halves of which end on their own. */
  dial(servicePort: number): Socket {
    return connect({ host: "127.0.0.1", port: this.hostPort(servicePort), allowHalfOpen: true });
  }

  /** Runs a program as a child of the `probe` service of the walls fixture. */
  async runInService(...words: string[]): Promise<z.infer<typeof ServiceRun>> {
    return await this.runProbe(8080, ...words);
  }

  /** Runs a program as a child of the service that listens at the port with probe.js. */
  async runProbe(servicePort: number, ...words: string[]): Promise<z.infer<typeof ServiceRun>> {
    const address = `http://127.0.0.1:${this.hostPort(servicePort)}/`;
    const request = { method: "POST", body: JSON.stringify(words), signal: AbortSignal.timeout(WAIT_MS) };
    return ServiceRun.parse(await (await fetch(address, request)).json());
  }

  /** Starts a command that goes on, such as `logs -f`. */
  follow(...words: string[]): Follower {
    return new Follower(this.bed.commandLine(words));
  }

  /** Names of the records that are still kept. */
  async records(): Promise<string[]> {
    return await readdir(enclavesFolder(this.bed.stateDir)).catch(() => []);
  }

  /**
   * Processes, sockets, mounts and files that are still there, and that an enclave which has ended does not need. A
   * record tells the end a moment before its runner has cleared up and gone, which it must have within the time.
   */
  async remains(): Promise<string[]> {
    let last: string[] = [];
    const isEmpty = async (): Promise<true | undefined> => {
      last = await this.#remainsNow();
      return last.length === 0 ? true : undefined;
    };
    await waitFor("the end", isEmpty, END_MS).catch(() => undefined);
    return last;
  }

  async #remainsNow(): Promise<string[]> {
    const { directory } = enclavePaths(this.bed.stateDir, this.name);
    const files = await readdir(directory, { recursive: true }).catch(() => []);
    return [...(await leftovers(this.bed)), ...files.filter((path) => !KEPT.test(path))];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bed[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** How a connection ended: `end`, or the code of its error. It stays readable by others. */
export function ending(socket: Socket): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  socket.once("end", () => resolve("end"));
  socket.once("close", () => resolve("end"));
  return promise;
}

/** A command that goes on, and what it has printed. */
export class Follower implements AsyncDisposable {
  readonly ended: Promise<number | null>;
  readonly child: ChildProcess;
  #text = "";
  #errors = "";

  constructor([program, ...words]: readonly [string, ...string[]]) {
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    this.ended = new Promise((resolve) => child.once("close", resolve));
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (this.#text += chunk));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (this.#errors += chunk));
  }

  get text(): string {
    return this.#text;
  }

  async until(pattern: RegExp): Promise<void> {
    const attempt = async (): Promise<true | undefined> => pattern.test(this.#text) || undefined;
    await waitFor(String(pattern), attempt, WAIT_MS).catch((error: unknown) => {
      throw new Error(`no ${String(pattern)} in ${this.#text}\n${this.#errors}`, { cause: error });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGTERM");
    await this.ended;
  }
}

/**
 * Copies a fixture, without starting anything yet.
 * @param programs names of programs to be in /app, and their C sources below test/fixtures
 */
export async function prepareEnclave(
  backend: BackendName,
  name: string,
  programs: Readonly<Record<string, string>> = {},
): Promise<ComplianceEnclave> {
  const directory = await mkdtemp(join(tmpdir(), "co-"));
  await chmod(directory, 0o755);
  await cp(join(FIXTURES, "compliance", name), directory, { recursive: true });
  for (const [program, source] of Object.entries(programs)) {
    const words = ["-static", "-O1", "-o", join(directory, "app", program), join(FIXTURES, source)];
    const { status, stderr } = await runCommand(["cc", ...words]);
    if (status !== 0) throw new Error(stderr);
  }
  return new ComplianceEnclave(backend, name, { bed: await openTestbed(), directory });
}
