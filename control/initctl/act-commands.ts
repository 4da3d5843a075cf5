import { setTimeout as delay } from "node:timers/promises";

import { Command } from "commander";

import { withDeadline } from "../../core/deadline.ts";
import { KitError } from "../../core/errors.ts";
import type { ServiceStatus } from "../../wire/control.ts";
import type { ControlClient, ServiceAct } from "../control-client.ts";
import type { GetInitctlContext, InitctlContext } from "./initctl-context.ts";
import { parseDuration } from "./option-parsers.ts";
import { describeState } from "./render-status.ts";
import { pickServices } from "./service-names.ts";

const DEFAULT_TIMEOUT_MS = 300_000;
const POLL_MS = 50;
const DONE = { start: "started", stop: "stopped", restart: "restarted" } as const;
const DESCRIPTIONS = {
  start: "start services and wait until they run, healthy where they have a check",
  stop: "stop services and wait until they have ended",
  restart: "stop services, start them again and wait until they run",
} as const;

interface ActFlags {
  readonly wait: boolean;
  readonly timeout: number;
  readonly json?: boolean;
}

export function createActCommand(getContext: GetInitctlContext, act: ServiceAct): Command {
  return new Command(act)
    .description(DESCRIPTIONS[act])
    .argument("<services...>", "names of services")
    .option("--no-wait", "return when the enclave has taken the order")
    .option("--timeout <duration>", "how long to wait", parseDuration, DEFAULT_TIMEOUT_MS)
    .option("--json", "print the status afterwards as JSON")
    .addHelpText("after", `\nExamples:\n  initctl ${act} web\n  initctl ${act} web worker --timeout 30s`)
    .action(
      async (names: readonly string[], flags: ActFlags) => await runAct(getContext(), act, { names, flags }),
    );
}

interface ActRequest {
  readonly names: readonly string[];
  readonly flags: ActFlags;
}

async function runAct(context: InitctlContext, act: ServiceAct, { names, flags }: ActRequest): Promise<void> {
  const { terminal } = context;
  const client = await context.connect();
  const signal = withDeadline(context.interrupted, flags.timeout);
  const chosen = pickServices(await client.services(signal), names);
  const after: ServiceStatus[] = [];
  for (const service of chosen) {
    terminal.progress(`${act} ${service.name}`);
    const status = flags.wait
      ? await actAndWait(client, act, { name: service.name, signal })
      : await order(client, act, { service, signal });
    after.push(status);
    if (flags.json !== true)
      terminal.print(
        `${service.name} ${flags.wait ? DONE[act] : "is"}${flags.wait ? ": " : " "}${describeState(status)}`,
      );
  }
  if (flags.json === true) terminal.printJson(after);
}

async function actAndWait(
  client: ControlClient,
  act: ServiceAct,
  { name, signal }: { readonly name: string; readonly signal: AbortSignal },
): Promise<ServiceStatus> {
  let status = await client.act(name, act, signal);
  if (act === "stop") return status;
  while (isOnItsWay(status)) {
    await delay(POLL_MS, undefined, { signal });
    status = await client.service(name, signal);
  }
  if (isUp(status)) return status;
  const reason = status.reason === null ? "" : `: ${status.reason}`;
  throw new KitError("E_SERVICE_FAILED", `service ${name} is ${describeState(status)}${reason}`, {
    details: { service: name },
  });
}

/** A service that does its work and ends has started well. */
function isUp({ state, health, reason }: ServiceStatus): boolean {
  if (state === "exited") return reason === null || reason === "exited(0)";
  return state === "running" && health !== "unhealthy";
}

function isOnItsWay({ state, health }: ServiceStatus): boolean {
  if (state === "running") return health === "starting";
  return state === "waiting" || state === "starting" || state === "stopping" || state === "stopped";
}

/** The API answers when the act is done: whoever does not wait for that looks until it has begun. */
async function order(
  client: ControlClient,
  act: ServiceAct,
  { service, signal }: { readonly service: ServiceStatus; readonly signal: AbortSignal },
): Promise<ServiceStatus> {
  const seen = new AbortController();
  const both = AbortSignal.any([signal, seen.signal]);
  const answered = client.act(service.name, act, both);
  answered.catch(() => undefined); // heard below unless it was given up
  try {
    for (;;) {
      const status = await Promise.race([answered, delay(POLL_MS, undefined, { signal })]);
      if (status !== undefined) return status;
      const now = await client.service(service.name, signal);
      if (now.state !== service.state || now.pid !== service.pid) return now;
    }
  } finally {
    seen.abort();
  }
}
