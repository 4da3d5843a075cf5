/**
 * Reads events and logs from the supervisor page by page, as one stream of batches. The first batch never waits: it may
 * be empty, and tells whether the supervisor allows the read at all.
 */
import type { LogGap } from "../../wire/control.ts";
import { decodeReadPage, MAX_READ_BYTES } from "../../wire/supervisor-frames.ts";
import type { EventsRequest, LogsRequest } from "./read-requests.ts";
import type { SupervisorClient } from "./supervisor-client.ts";

/** One wait at the supervisor, in ms; afterwards the gateway asks again. */
const WAIT_MS = 10_000;

/** What is there; with `follow` also what will be, until the enclave's end. */
export async function* readEvents(
  client: SupervisorClient,
  { after: firstAfter, follow }: EventsRequest,
  signal: AbortSignal,
): AsyncGenerator<readonly unknown[]> {
  let after = firstAfter;
  let end: number | undefined;
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    const params = { after, waitMs: isFirst || !follow ? 0 : WAIT_MS };
    const page = decodeReadPage(await client.call({ method: "events.read", params }, signal));
    yield page.entries;
    end ??= page.last;
    after = page.next;
    if (page.final || (!follow && after >= end)) return;
  }
}

/** Without `follow` ends with what was there at the first read. */
export async function* readLogs(
  client: SupervisorClient,
  { service: services, after: firstAfter, since, tail, follow }: LogsRequest,
  signal: AbortSignal,
): AsyncGenerator<readonly unknown[]> {
  let after = firstAfter;
  let end: number | undefined;
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    const params = {
      after,
      waitMs: follow && !isFirst ? WAIT_MS : 0,
      limitBytes: MAX_READ_BYTES,
      ...(services === undefined ? {} : { services }),
      ...(tail !== undefined && isFirst ? { tail } : {}),
    };
    const page = decodeReadPage(await client.call({ method: "logs.read", params }, signal));
    yield [...gapOf(page.dropped), ...page.entries.filter((entry) => isSince(entry, since))];
    end ??= page.last;
    after = page.next;
    if (page.final || (!follow && after >= end)) return;
  }
}

function gapOf(dropped: number): readonly LogGap[] {
  return dropped > 0 ? [{ dropped }] : [];
}

function isSince(entry: unknown, sinceMs: number | undefined): boolean {
  if (sinceMs === undefined) return true;
  const isTimed = typeof entry === "object" && entry !== null && "time" in entry;
  return isTimed && typeof entry.time === "number" && entry.time >= sinceMs;
}
