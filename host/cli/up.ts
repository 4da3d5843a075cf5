import { Command, InvalidArgumentError, Option } from "commander";

import { withDeadline } from "../../core/deadline.ts";
import { KitError, toKitError } from "../../core/errors.ts";
import { BACKEND_NAMES, type BackendName } from "../backends/machine-plan.ts";
import { EnclaveName } from "../config/enclave-schema.ts";
import type { PortSpec } from "../config/enclave-spec.ts";
import { loadEnclaveSpec } from "../config/load-spec.ts";
import { parsePortMapping } from "../config/port-mapping.ts";
import { parseDurationMs } from "../../core/quantities.ts";
import { awaitHealthy } from "../controller/await-healthy.ts";
import { followLogs, readLogs } from "../controller/log-reader.ts";
import { awaitEnd, MAX_STOP_MS } from "../controller/stop.ts";
import { type StartedEnclave, startEnclave } from "../controller/up.ts";
import { enclavePaths } from "../state/enclave-paths.ts";
import type { EnclaveRecord } from "../state/enclave-record.ts";
import type { CommandContext, GetContext } from "./command-context.ts";
import { describePort, toStatusJson } from "./describe-record.ts";
import { toPrintable } from "../../core/printable.ts";
import { renderLogEntry } from "../../control/render-logs.ts";

const DEFAULT_TIMEOUT_MS = 120_000;
const LAST_LINES = 15;
const INTERRUPTED_STATUS = 130;

interface UpFlags {
  readonly detach?: boolean;
  readonly name?: string;
  readonly publish?: readonly PortSpec[];
  readonly timeout: number;
  readonly debugMode?: boolean;
  readonly backend: BackendName;
  readonly json?: boolean;
}

export function createUpCommand(getContext: GetContext): Command {
  return new Command("up")
    .description("build what is missing, start the enclave, publish its ports")
    .argument("<file>", "enclave.yaml")
    .option("-d, --detach", "return once every service is healthy")
    .option("--name <name>", "name of this enclave, if not the file's", parseName)
    .option(
      "-p, --publish <mapping>",
      "publish this port instead of the file's (can be repeated)",
      collectPort,
    )
    .addOption(new Option("--backend <backend>", "what to run on").choices(BACKEND_NAMES).default("local"))
    .option("--debug-mode", "nitro: readable console, and measurements that are all zero")
    .option(
      "--timeout <duration>",
      "how long to wait until everything is healthy",
      parseDuration,
      DEFAULT_TIMEOUT_MS,
    )
    .option("--json", "print the status as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  pipeline up enclave.yaml\n  pipeline up enclave.yaml -d --name blue -p 127.0.0.1:9000:8080",
    )
    .action(async (file: string, flags: UpFlags) => await runUp(getContext(), file, flags));
}

function parseName(text: string): string {
  const parsed = EnclaveName.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError(parsed.error.issues[0]?.message ?? "not a name");
}

function collectPort(text: string, earlier: readonly PortSpec[] = []): PortSpec[] {
  const port = parsePortMapping(text);
  if (port === undefined) throw new InvalidArgumentError('write "127.0.0.1:8080:80"');
  return [...earlier, port];
}

export function parseDuration(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs === undefined)
    throw new InvalidArgumentError("write a duration such as 500ms, 10s or 1m30s");
  return durationMs;
}

async function runUp(context: CommandContext, file: string, flags: UpFlags): Promise<void> {
  const { toolkit, terminal, interrupted } = context;
  const spec = await loadEnclaveSpec(file);
  const name = flags.name ?? spec.name;
  const foreground = flags.detach !== true;
  using started = await startEnclave(toolkit, {
    spec,
    name,
    backend: flags.backend,
    ports: checkPublished(flags.publish, spec.ports) ?? spec.ports,
    foreground,
    debug: isDebug(flags),
    signal: interrupted,
    onProgress: (step) => terminal.progress(step),
    onWarning: (text) => terminal.note(`warning: ${text}`),
  });
  if (foreground) await runInForeground(context, name, started);
  else await runDetached(context, name, { started, flags });
}

/** @throws E_USAGE where the backend has no such mode */
function isDebug({ backend, debugMode }: UpFlags): boolean {
  if (debugMode === true && backend !== "nitro")
    throw new KitError("E_USAGE", `--debug-mode is for --backend nitro, not for ${backend}`);
  return debugMode === true;
}

/** The measured configuration says which service ports may be reached; the command line chooses where, not what. */
function checkPublished(
  asked: readonly PortSpec[] | undefined,
  measured: readonly PortSpec[],
): readonly PortSpec[] | undefined {
  const foreign = asked?.find((port) => !measured.some((one) => one.servicePort === port.servicePort));
  if (foreign === undefined) return asked;
  throw new KitError("E_CONFIG_PORT", `the enclave does not publish its port ${foreign.servicePort}`, {
    hint: "Add the port under ports: of the enclave.yaml; the image decides which of its ports can be reached.",
  });
}

interface Detached {
  readonly started: StartedEnclave;
  readonly flags: UpFlags;
}

async function runDetached(
  context: CommandContext,
  name: string,
  { started, flags }: Detached,
): Promise<void> {
  const { terminal, interrupted } = context;
  terminal.progress(`waiting until ${name} is healthy`);
  const signal = withDeadline(interrupted, flags.timeout);
  try {
    const record = await awaitHealthy(started.records[Symbol.asyncIterator](), signal);
    if (flags.json === true) terminal.printJson(toStatusJson(record));
    else terminal.print(describeStarted(record));
  } catch (error) {
    throw await giveUp(context, name, { started, error: toKitError(error) });
  }
}

function describeStarted(record: EnclaveRecord): string {
  const ports = record.ports.map((port) => `  ${describePort(port)}`);
  return [`${record.name} is ${record.state}`, ...ports].join("\n");
}

/** Stops what did not become healthy; the refusal gets the last lines of the service at fault. */
async function giveUp(
  { toolkit }: CommandContext,
  name: string,
  { started, error }: { readonly started: StartedEnclave; readonly error: KitError },
): Promise<KitError> {
  started.askStop(error.message);
  await awaitEnd(started.runner, MAX_STOP_MS);
  const service = error.details["service"];
  const entries = await readLogs(enclavePaths(toolkit.stateDir, name).logs, {
    tail: LAST_LINES,
    ...(typeof service === "string" ? { services: [service] } : {}),
  });
  if (entries.length === 0 || error.code === "E_CANCELLED") return error;
  const lines = entries.map((entry) => `  ${entry.service} | ${toPrintable(entry.line)}`);
  const message = `${error.message}\n${lines.join("\n")}`;
  return new KitError(error.code, message, {
    cause: error,
    hint: error.hint,
    details: { ...error.details, lastLines: entries },
  });
}

/** Shows the output until the enclave ends; the first Ctrl-C stops it in order, a second one kills. */
async function runInForeground(
  context: CommandContext,
  name: string,
  started: StartedEnclave,
): Promise<void> {
  const { toolkit, terminal, interrupted } = context;
  const stateDir = toolkit.stateDir;
  const ended = new AbortController();
  const names = new Map<string, number>();
  const showing = (async () => {
    const logs = followLogs(enclavePaths(stateDir, name).logs, { signal: ended.signal });
    for await (const entry of logs)
      terminal.print(renderLogEntry(entry, { terminal, names, timestamps: false }));
  })();
  const onInterrupt = (): void => {
    terminal.note("stopping in order; Ctrl-C again to kill");
    started.askStop();
  };
  interrupted.addEventListener("abort", onInterrupt, { once: true });
  if (interrupted.aborted) onInterrupt();
  let last: EnclaveRecord | undefined;
  for await (const record of started.records) {
    if (last?.state !== "running" && record.state === "running") terminal.note(describeStarted(record));
    last = record;
  }
  ended.abort();
  await showing;
  interrupted.removeEventListener("abort", onInterrupt);
  if (interrupted.aborted) {
    process.exitCode = INTERRUPTED_STATUS;
    return;
  }
  if (last?.state === "failed") throw foregroundFailure(last);
}

function foregroundFailure({ error, name, reason }: EnclaveRecord): KitError {
  if (error !== null)
    return new KitError(error.code, error.message, { hint: error.hint, details: error.details });
  return new KitError("E_HOST_ENCLAVE_FAILED", `enclave ${name} ended: ${reason ?? "failed"}`);
}
