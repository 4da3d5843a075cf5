/**
 * Reads events and logs from the supervisor page by page, as one stream of batches. The first batch never waits: it may
 * be empty, and tells whether the supervisor allows the read at all.
 */
import type { LogGap } from "../wire/control.ts";
import { decodeReadPage, MAX_READ_BYTES } from "../wire/supervisor-frames.ts";
import type { LogsQuery } from "./control-query.ts";
import type { SupervisorClient } from "./supervisor-client.ts";

/** One wait at the supervisor, in ms; afterwards the gateway asks again. */
const WAIT_MS = 10_000;

/** Ends when the enclave does. */
export async function* readEvents(
  client: SupervisorClient,
  firstAfter: number,
  signal: AbortSignal,
): AsyncGenerator<readonly unknown[]> {
  let after = firstAfter;
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    const params = { after, waitMs: isFirst ? 0 : WAIT_MS };
    const page = decodeReadPage(await client.call({ method: "events.read", params }, signal));
    yield page.entries;
    if (page.final) return;
    after = page.next;
  }
}

/** Without `follow` ends with what was there at the first read. */
export async function* readLogs(
  client: SupervisorClient,
  { services, after: firstAfter, tail, follow }: LogsQuery,
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
    const gap: LogGap = { dropped: page.dropped };
    yield page.dropped > 0 ? [gap, ...page.entries] : page.entries;
    end ??= page.last;
    after = page.next;
    if (page.final || (!follow && after >= end)) return;
  }
}
