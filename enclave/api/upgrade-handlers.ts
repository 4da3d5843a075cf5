/** The operations whose connection becomes a stream: the start of a command, and what a service prints. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { EXEC_FRAME_HEADER_BYTES, EXEC_STREAM } from "../../wire/control.ts";
import { LogEntrySchema } from "../../wire/control-schemas.ts";
import type { ApiContext } from "./control-api.ts";
import { toControlError } from "./control-errors.ts";
import { relayExec } from "./exec-relay.ts";
import { readLogs } from "./page-reader.ts";
import { parseBody, parseId } from "./request-values.ts";
import { ExecStart } from "./routes.ts";
import { decodeSessionStatus } from "./session-answers.ts";
import { openStreams } from "./session-streams.ts";
import { acceptUpgrade, readUpgradeBody, refuseUpgrade, STREAM_PROTOCOL } from "./upgrade-connection.ts";

export interface UpgradeRequest {
  readonly request: IncomingMessage;
  readonly connection: Duplex;
  readonly head: Buffer;
}

/** One wait at the supervisor, in ms. */
const WAIT_MS = 25_000;
/** From SIGHUP to SIGKILL. */
const HANGUP_GRACE_MS = 5_000;

/** Never rejects; the connection is closed in the end. */
export async function serveUpgrade(upgrade: UpgradeRequest, context: ApiContext): Promise<void> {
  const { request, connection } = upgrade;
  connection.on("error", () => connection.destroy());
  try {
    if (request.headers.upgrade?.toLowerCase() !== STREAM_PROTOCOL) {
      throw new KitError("E_CONTROL_REQUEST", `the only upgrade is to ${STREAM_PROTOCOL}`);
    }
    await route(upgrade, context);
  } catch (error) {
    const refusal = toControlError(error);
    context.log.info("a stream was refused", { code: refusal.code });
    refuseUpgrade(connection, refusal);
  }
}

async function route(upgrade: UpgradeRequest, context: ApiContext): Promise<void> {
  const { method = "", url = "" } = upgrade.request;
  const session = /^\/v1\/exec\/([^/?]{1,64})\/start$/.exec(url)?.[1];
  const service = /^\/v1\/services\/([^/?%]{1,64})\/attach$/.exec(url)?.[1];
  if (method === "POST" && session !== undefined) return await startExec(parseId(session), upgrade, context);
  if (method === "POST" && service !== undefined) return await attach(service, upgrade, context);
  const message = `the control API has no stream ${method} ${url.slice(0, 128)}`;
  throw new KitError("E_CONTROL_NOT_FOUND", message);
}

async function startExec(id: number, upgrade: UpgradeRequest, context: ApiContext): Promise<void> {
  const { request, connection, head } = upgrade;
  const size = parseBody(await readUpgradeBody(request, connection, head), ExecStart);
  const ticket = context.tickets.take(id);
  const gone = goneSignal(connection);
  const streams = await openStreams(context.streamSocket, ticket, gone);
  const stdin = streams.get(0);
  try {
    await context.client.call({ method: "exec.start", params: { id, ...size } });
    if (stdin === undefined) throw new KitError("E_CONTROL_GONE", "the supervisor gave no stream");
  } catch (error) {
    for (const stream of streams.values()) stream.destroy();
    throw error;
  }
  acceptUpgrade(connection);
  const ended = awaitEnd(id, context, gone);
  await relayExec(connection, { stdin, stdout: streams.get(1), stderr: streams.get(2) }, ended).catch(
    () => undefined,
  );
  // A client that left before the end takes its command with it.
  if (!(await ended)) await hangUp(id, context).catch(() => undefined);
}

/** False if the client, or the supervisor, is gone before the command has ended. */
async function awaitEnd(id: number, { client }: ApiContext, gone: AbortSignal): Promise<boolean> {
  try {
    while (!gone.aborted) {
      const answer = await client.call({ method: "exec.wait", params: { id, waitMs: WAIT_MS } }, gone);
      if (decodeSessionStatus(answer).state === "ended") return true;
    }
  } catch {
    // Whoever is gone, there is nobody to be told.
  }
  return false;
}

async function hangUp(id: number, { client }: ApiContext): Promise<void> {
  await client.call({ method: "exec.signal", params: { id, signal: "SIGHUP" } });
  await client.call({ method: "exec.wait", params: { id, waitMs: HANGUP_GRACE_MS } });
  await client.call({ method: "exec.signal", params: { id, signal: "SIGKILL" } });
}

/** Line by line, as the supervisor has them; from now on. */
async function attach(name: string, upgrade: UpgradeRequest, context: ApiContext): Promise<void> {
  const { request, connection, head } = upgrade;
  await readUpgradeBody(request, connection, head);
  const gone = goneSignal(connection);
  connection.resume().once("end", () => connection.destroy());
  const query = { service: [name], after: 0, tail: 0, follow: true };
  const batches = readLogs(context.client, query, gone);
  await batches.next();
  acceptUpgrade(connection);
  try {
    for await (const batch of batches) await writeBatch(connection, batch, gone);
    connection.end();
  } catch {
    connection.destroy(); // an answer would be taken for output
  }
}

async function writeBatch(connection: Duplex, batch: readonly unknown[], gone: AbortSignal): Promise<void> {
  for (const entry of batch) {
    const parsed = LogEntrySchema.safeParse(entry);
    if (!parsed.success) continue;
    const { stream, line, partial } = parsed.data;
    await writeFrame(connection, EXEC_STREAM[stream], partial === true ? line : `${line}\n`, gone);
  }
}

async function writeFrame(
  connection: Duplex,
  number: number,
  text: string,
  gone: AbortSignal,
): Promise<void> {
  const body = Buffer.from(text);
  const frame = Buffer.alloc(EXEC_FRAME_HEADER_BYTES + body.length);
  frame.writeUInt8(number);
  frame.writeUInt32BE(body.length, 4);
  body.copy(frame, EXEC_FRAME_HEADER_BYTES);
  if (!connection.write(frame)) await once(connection, "drain", { signal: gone });
}

function goneSignal(connection: Duplex): AbortSignal {
  const gone = new AbortController();
  connection.once("close", () => gone.abort());
  if (connection.destroyed) gone.abort();
  return gone.signal;
}
