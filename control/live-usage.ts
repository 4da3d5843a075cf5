/** Samples of several enclaves as a table that is drawn anew, as one table, or as lines of JSON. */
import { setTimeout as delay } from "node:timers/promises";

import { type ErrorCode } from "../core/error-table.ts";
import { KitError } from "../core/errors.ts";
import type { Terminal } from "../core/terminal.ts";
import type { EnclaveStats } from "../wire/control.ts";
import type { ControlClient } from "./control-client.ts";
import { renderUsageTable, type UsageSample } from "./usage-table.ts";

const DRAW_MS = 200;
const HOME_AND_CLEAR = "\u001B[H\u001B[J";

export interface UsageSource {
  readonly enclave: string;
  readonly client: ControlClient;
}

export interface UsageOptions {
  readonly terminal: Terminal;
  readonly intervalMs: number;
  readonly json: boolean;
  readonly signal: AbortSignal;
}

/** One table with rates, for which two samples are taken; as JSON one sample, without waiting for a second. */
export async function showUsageOnce(sources: readonly UsageSource[], options: UsageOptions): Promise<void> {
  const { terminal, json, signal, intervalMs } = options;
  const take = async (): Promise<readonly EnclaveStats[]> =>
    await Promise.all(sources.map(async ({ client }) => await client.stats(signal)));
  const first = await take();
  if (json) {
    first.forEach((stats, index) => terminal.print(JSON.stringify(named(sources[index], stats))));
    return;
  }
  await delay(intervalMs, undefined, { signal });
  const second = await take();
  terminal.print(
    renderUsageTable(
      second.map((stats, index) => ({
        enclave: sources[index]?.enclave ?? "",
        stats,
        previous: first[index],
      })),
    ),
  );
}

/** Until the signal aborts or the last enclave has ended. */
export async function followUsage(sources: readonly UsageSource[], options: UsageOptions): Promise<void> {
  const { json, terminal } = options;
  const latest = new Map<string, UsageSample>();
  const ended = new AbortController();
  const drawing = json ? undefined : drawUntil(latest, options, ended.signal);
  try {
    await Promise.all(
      sources.map(async ({ enclave, client }) => {
        try {
          for await (const stats of client.statsStream(options.intervalMs, options.signal)) {
            if (json) terminal.print(JSON.stringify({ name: enclave, ...stats }));
            else latest.set(enclave, { enclave, stats, previous: latest.get(enclave)?.stats });
          }
        } catch (error) {
          // One that has ended does not take the others' figures away.
          if (sources.length === 1 || !isGone(error)) throw error;
        }
        latest.delete(enclave);
      }),
    );
  } finally {
    ended.abort();
    await drawing;
  }
}

async function drawUntil(
  latest: ReadonlyMap<string, UsageSample>,
  { terminal }: UsageOptions,
  ended: AbortSignal,
): Promise<void> {
  let drawn = "";
  while (!ended.aborted) {
    const table = renderUsageTable([...latest.values()]);
    if (table !== drawn && latest.size > 0) terminal.print(`${HOME_AND_CLEAR}${fit(table, terminal.width)}`);
    drawn = table;
    await delay(DRAW_MS, undefined, { signal: ended }).catch(() => undefined);
  }
}

/** A line that wraps would push the others down at each drawing. */
function fit(table: string, width: number): string {
  return table
    .split("\n")
    .map((line) => line.slice(0, width))
    .join("\n");
}

function isGone(error: unknown): boolean {
  const codes: readonly ErrorCode[] = ["E_CONTROL_LOST", "E_HOST_NOT_RUNNING", "E_HOST_NOT_FOUND"];
  return error instanceof KitError && codes.includes(error.code);
}

function named(
  source: UsageSource | undefined,
  stats: EnclaveStats,
): { readonly name: string } & EnclaveStats {
  return { name: source?.enclave ?? "", ...stats };
}
