/**
 * Follows an enclave through its control API for as long as it lives: status whenever something happened, and logs.
 * Connections that break are opened again; a new generation of the supervisor counts its logs from the start.
 */
import { setTimeout as delay } from "node:timers/promises";

import { backoffDelayMs } from "../../core/backoff.ts";
import { withDeadline } from "../../core/deadline.ts";
import { KitError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { type Dial, getJson, streamLines } from "./control-stream.ts";
import type { HostLogEntry } from "./log-writer.ts";
import { decodeLogItem, decodeStatus, type ToldStatus } from "./status-decoder.ts";

const RECONNECT = { initialMs: 10, maximumMs: 500, jitter: 0.2 };
const STATUS_TIMEOUT_MS = 5_000;

export interface FollowerOptions {
  readonly dial: Dial;
  readonly signal: AbortSignal;
  readonly log: Log;
  readonly onStatus: (status: ToldStatus) => void;
  readonly onLogs: (entries: readonly HostLogEntry[]) => Promise<void>;
  /** From here on nothing that it says is lost. */
  readonly onLogsOpen: () => void;
  /** The enclave ended its log stream: everything it said has been handed over. */
  readonly onLogsEnd: () => void;
  /** False where logs stay inside the enclave. */
  readonly shipsLogs: boolean;
}

/** Resolves when the signal aborts. */
export async function followEnclave(options: FollowerOptions): Promise<void> {
  const position: LogPosition = { generation: -1, after: 0 };
  const following = [repeatedly(options, async (reset) => await followStatus(options, reset))];
  if (options.shipsLogs)
    following.push(repeatedly(options, async (reset) => await followLogs(options, position, reset)));
  await Promise.all(following);
}

/** Runs `work` again and again; `reset` tells that it got through, so that the next failure waits briefly. */
async function repeatedly(
  { signal, log }: FollowerOptions,
  work: (reset: () => void) => Promise<void>,
): Promise<void> {
  let attempt = 0;
  const reset = (): void => void (attempt = 0);
  while (!signal.aborted) {
    try {
      await work(reset);
    } catch (error) {
      // Until the gateway listens, and while it is restarted, nobody answers: that is no news.
      const isNews =
        attempt === 0 &&
        !signal.aborted &&
        !(error instanceof KitError && error.code === "E_BACKEND_CONNECT");
      if (isNews) log.warn("the control API cannot be followed", { reason: String(error) });
    }
    await delay(backoffDelayMs(RECONNECT, attempt, Math.random), undefined, { signal }).catch(
      () => undefined,
    );
    attempt += 1;
  }
}

/** Events only say that something happened; the status says what is. Many events in one batch cost one status. */
async function followStatus(options: FollowerOptions, reset: () => void): Promise<void> {
  for await (const batch of streamLines({ ...options, path: "/v1/events" })) {
    if (batch.length === 0) continue;
    options.onStatus(await readStatus(options));
    reset();
  }
}

async function readStatus({ dial, signal }: FollowerOptions): Promise<ToldStatus> {
  const deadline = withDeadline(signal, STATUS_TIMEOUT_MS);
  return decodeStatus(await getJson({ dial, signal: deadline, path: "/v1/status" }));
}

interface LogPosition {
  generation: number;
  after: number;
}

async function followLogs(options: FollowerOptions, position: LogPosition, reset: () => void): Promise<void> {
  const { supervisor } = await readStatus(options);
  if (supervisor.restarts !== position.generation) {
    position.generation = supervisor.restarts;
    position.after = 0;
  }
  const path = `/v1/logs?follow=true&after=${position.after}`;
  for await (const batch of streamLines({ ...options, path, onOpen: options.onLogsOpen })) {
    const entries: HostLogEntry[] = [];
    for (const item of batch.map(decodeLogItem)) {
      if ("dropped" in item) entries.push(gapEntry(item.dropped));
      else {
        position.after = item.seq;
        entries.push(item.entry);
      }
    }
    await options.onLogs(entries);
    reset();
  }
  options.onLogsEnd();
}

function gapEntry(dropped: number): HostLogEntry {
  return {
    time: Date.now(),
    service: "console",
    stream: "stderr",
    line: `${dropped} lines were dropped: they came faster than they could be read`,
  };
}
