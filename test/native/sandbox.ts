/**
 * A real sandbox around a real init, with a supervisor that the test holds by a string
 * (test/fixtures/native/agent.c). The test plays the host: it listens on the vsock sockets.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  writeFile,
} from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { buildNative, type NativePrograms } from "../../native/build.ts";

const run = promisify(execFile);
const REPOSITORY = join(import.meta.dirname, "..", "..");
const DEADLINE_MS = 20_000;

/** uid of everything that has no name: what an ordinary user is on every Linux machine. */
export const NOBODY = 65534;
/** First uid of the range that root maps. */
export const RANGE_START = 1_878_982_656;

export const isRoot = process.getuid?.() === 0;

/** Compiled programs in a folder that every user may read. */
export interface Workshop extends Omit<NativePrograms, "addon" | "nodeHeaders">, AsyncDisposable {
  readonly agent: string;
  readonly directory: string;
}

export async function openWorkshop(): Promise<Workshop> {
  const built = await buildNative(join(REPOSITORY, "native", "build"));
  const directory = await mkdtemp(join(tmpdir(), "native-"));
  const inside = (name: string): string => join(directory, name);
  await chmod(directory, 0o755);
  for (const [from, to] of [
    [built.init, "init"],
    [built.initctl, "initctl"],
    [built.launcher, "launcher"],
    [built.serviceExec, "service-exec"],
    [built.nsmDevice, "nsm-device"],
  ] as const) {
    await copyFile(from, inside(to));
    await chmod(inside(to), 0o755);
  }
  await compileFixture("agent", inside("agent"));
  return {
    init: inside("init"),
    initctl: inside("initctl"),
    launcher: inside("launcher"),
    serviceExec: inside("service-exec"),
    nsmDevice: inside("nsm-device"),
    agent: inside("agent"),
    directory,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

export async function compileFixture(name: string, output: string): Promise<void> {
  const source = join(REPOSITORY, "test", "fixtures", "native", `${name}.c`);
  await run("cc", ["-std=c17", "-O1", "-static", "-o", output, source]);
  await chmod(output, 0o755);
}

/** Waits until `look` answers something else than undefined or false. */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await sleep(10);
  }
}

/** `promise`, but a failure that names what was awaited once the deadline passes. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(DEADLINE_MS, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`never happened: ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
    late.catch(() => undefined);
  }
}

/** Values that come one by one, for one reader. */
class Queue<T> {
  readonly #values: T[] = [];
  readonly #readers: ((value: T) => void)[] = [];
  push(value: T): void {
    const reader = this.#readers.shift();
    if (reader === undefined) this.#values.push(value);
    else reader(value);
  }
  next(what: string): Promise<T> {
    const value = this.#values.shift();
    if (value !== undefined) return Promise.resolve(value);
    return within(what, new Promise((resolve) => this.#readers.push(resolve)));
  }
}

/** The supervisor inside, as a connection. */
export class Agent {
  readonly #socket: Socket;
  readonly #messages = new Queue<string>();
  #buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      this.#buffer = Buffer.concat([this.#buffer, chunk]);
      this.#cut();
    });
  }

  #cut(): void {
    for (;;) {
      const newline = this.#buffer.indexOf(10);
      const length = Number(this.#buffer.subarray(0, newline));
      if (newline === -1 || this.#buffer.length < newline + 1 + length) return;
      this.#messages.push(this.#buffer.subarray(newline + 1, newline + 1 + length).toString());
      this.#buffer = this.#buffer.subarray(newline + 1 + length);
    }
  }

  /** Sends a command that gets no answer. */
  tell(command: string): void {
    this.#socket.write(`${command}\n`);
  }

  ask(command: string): Promise<string> {
    this.tell(command);
    return this.#messages.next(`the answer to ${command}`);
  }

  /** A message that nobody asked for. */
  hear(): Promise<string> {
    return this.#messages.next("a message of the agent");
  }

  async lines(command: string): Promise<readonly string[]> {
    return (await this.ask(command)).split("\n").filter((line) => line !== "");
  }
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface SandboxOptions {
  readonly workshop: Workshop;
  /** `root` maps a range, `ordinary` is an ordinary user with one uid. */
  readonly as: "root" | "ordinary";
  /** Lines of the supervisor's argv file; the agent without arguments unless told. */
  readonly supervisor?: readonly string[];
  /** More files of the image. */
  readonly files?: Readonly<Record<string, string>>;
  /** Name of the folder that holds the image. */
  readonly treeName?: string;
  /** More arguments of the launcher. */
  readonly launcherArguments?: readonly string[];
  /** Changes the folders before the launch. */
  readonly prepare?: (sandbox: Sandbox) => Promise<void>;
  /** Bytes of the tmpfs. */
  readonly tmpfsBytes?: number;
  /** False: the host does not answer the heartbeat. */
  readonly heartbeat?: boolean;
}

export class Sandbox implements AsyncDisposable {
  readonly directory: string;
  readonly tree: string;
  readonly scratch: string;
  readonly vsock: string;
  /** Lines that init sent to port 9003. */
  readonly reports = new Queue<string>();
  readonly #options: SandboxOptions;
  readonly #agents = new Queue<Agent>();
  readonly #servers: Server[] = [];
  #child: ChildProcess | undefined;
  #stderr = "";
  #report = "";
  #exit: Promise<Exit> | undefined;
  #reportEnd: Promise<unknown> | undefined;
  heartbeats = 0;

  constructor(directory: string, options: SandboxOptions) {
    this.directory = directory;
    this.#options = options;
    this.tree = join(directory, options.treeName ?? "tree");
    this.scratch = join(directory, "scratch");
    this.vsock = join(directory, "vsock");
  }

  /** The uid outside of which the machine's root is the disguise. */
  get owner(): number {
    return this.#options.as === "root" ? RANGE_START : NOBODY;
  }

  get stderr(): string {
    return this.#stderr;
  }

  get launcher(): ChildProcess {
    if (this.#child === undefined) throw new Error("not launched");
    return this.#child;
  }

  nextAgent(): Promise<Agent> {
    return this.#agents.next("a supervisor");
  }

  exited(): Promise<Exit> {
    return within("the launcher's exit", this.#exit ?? Promise.reject(new Error("not launched")));
  }

  /** What the launcher wrote to its report descriptor, once that is closed. */
  async report(): Promise<string> {
    await within("the end of the report", this.#reportEnd ?? Promise.reject(new Error("not launched")));
    return this.#report;
  }

  /** Hangs up the launcher's lifeline. */
  hangUp(): void {
    const lifeline = this.launcher.stdio[4];
    if (lifeline !== null && lifeline !== undefined) lifeline.destroy();
  }

  async build(): Promise<void> {
    const { workshop } = this.#options;
    for (const folder of [this.tree, this.scratch, join(this.vsock, "guest")])
      await mkdir(folder, { recursive: true });
    const files = {
      "opt/enclave/supervisor.argv": `${(this.#options.supervisor ?? ["/agent"]).join("\n")}\n`,
    };
    for (const [name, text] of Object.entries({ ...files, ...this.#options.files })) {
      await mkdir(dirname(join(this.tree, name)), { recursive: true });
      await writeFile(join(this.tree, name), text);
    }
    await copyFile(workshop.init, join(this.tree, "opt/enclave/init"));
    await copyFile(workshop.agent, join(this.tree, "agent"));
    await this.#listen(9000, (socket) => {
      this.heartbeats++;
      if (this.#options.heartbeat !== false) socket.pipe(socket);
    });
    await this.#listen(9003, (socket) => {
      let line = "";
      socket.on("data", (chunk: Buffer) => (line += chunk.toString()));
      socket.on("end", () => this.reports.push(line));
    });
    await this.#listen(7000, (socket) => this.#agents.push(new Agent(socket)));
    await chownAll(this.directory, this.owner);
    await this.#options.prepare?.(this);
  }

  async #listen(port: number, take: (socket: Socket) => void): Promise<void> {
    const server = createServer({ allowHalfOpen: false }, (socket) => {
      socket.on("error", () => socket.destroy());
      take(socket);
    });
    this.#servers.push(server);
    server.listen(join(this.vsock, `vsock.sock_${port}`));
    await once(server, "listening");
  }

  launch(): void {
    const { as, launcherArguments, tmpfsBytes } = this.#options;
    const map = as === "root" ? `0:${RANGE_START}:65536` : "self";
    const command = [this.#options.workshop.launcher, "run", "--map", map, "--root", this.tree];
    command.push("--scratch", this.scratch, "--vsock-dir", this.vsock);
    command.push("--tmpfs-bytes", String(tmpfsBytes ?? 64 << 20), "--report-fd", "3", "--lifeline-fd", "4");
    command.push(...(launcherArguments ?? []), "--", "/opt/enclave/init");
    this.#child = spawnAs(as, command, ["ignore", "pipe", "pipe", "pipe", "pipe"]);
    const child = this.#child;
    child.stderr?.on("data", (chunk: Buffer) => (this.#stderr += chunk.toString()));
    child.stdio[3]?.on("data", (chunk: Buffer) => (this.#report += chunk.toString()));
    this.#reportEnd = once(child.stdio[3] ?? child, "close");
    for (const stream of child.stdio) stream?.on("error", () => undefined);
    this.#exit = new Promise((resolve) => child.once("close", (code, signal) => resolve({ code, signal })));
    child.stdout?.resume();
  }

  /** pid of init, as the host sees it. */
  async initPid(): Promise<number> {
    const { stdout } = await run("cat", [`/proc/${this.launcher.pid}/task/${this.launcher.pid}/children`]);
    return Number(stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGKILL");
      await this.exited();
    }
    for (const server of this.#servers) server.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Starts a command as root or as nobody. */
export function spawnAs(
  as: "root" | "ordinary",
  command: readonly string[],
  stdio: ("ignore" | "pipe")[],
  path = "/usr/sbin:/usr/bin:/sbin:/bin",
): ChildProcess {
  const drop = isRoot && as === "ordinary";
  const disguise = drop
    ? ["/usr/bin/setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"]
    : [];
  const [program = "", ...rest] = [...disguise, ...command];
  return spawn(program, rest, { stdio, env: { PATH: path } });
}

async function chownAll(path: string, owner: number): Promise<void> {
  if (!isRoot) return;
  await run("chown", ["-hR", `${owner}:${owner}`, path]);
}

/** A sandbox with its folders and listeners, not launched yet. */
export async function prepareSandbox(options: SandboxOptions): Promise<Sandbox> {
  const directory = await mkdtemp(join(options.workshop.directory, "sandbox-"));
  const sandbox = new Sandbox(directory, options);
  try {
    await chmod(directory, 0o755);
    await sandbox.build();
    return sandbox;
  } catch (error) {
    await sandbox[Symbol.asyncDispose]();
    throw error;
  }
}

export async function openSandbox(options: SandboxOptions): Promise<Sandbox> {
  const sandbox = await prepareSandbox(options);
  sandbox.launch();
  return sandbox;
}

/** True if any process of this machine is in the namespace (`pid:[4026532000]`). */
export async function isInhabited(kind: "pid" | "mnt", namespace: string): Promise<boolean> {
  for (const pid of await readdir("/proc")) {
    if (!/^[0-9]+$/.test(pid)) continue;
    const link = await readlink(`/proc/${pid}/ns/${kind}`).catch(() => "");
    if (link === namespace) return true;
  }
  return false;
}

/** False for a process that is gone, or dead and waiting for its parent to notice. */
export async function isAlive(pid: number | string): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") X");
  return !/\) [ZX]/.test(stat);
}

export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** All that a process writes to one of its descriptors. */
export async function collect(child: ChildProcess, fd: number): Promise<string> {
  const stream = child.stdio[fd];
  return stream instanceof Readable ? text(stream) : "";
}
