/** HTTP upgrades by hand: what comes after the head belongs to the caller, and so does the answer. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

import { errorToJson, KitError } from "../../core/errors.ts";
import { httpStatusOf } from "./control-errors.ts";

export const STREAM_PROTOCOL = "enclave-stream";

const BODY_TIMEOUT_MS = 5_000;
const MAX_BODY_BYTES = 4096;
const REASONS: Readonly<Record<number, string>> = { 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 503: "Service Unavailable" }; // prettier-ignore

/**
 * The JSON body of a request whose connection is about to be a stream. Node reads it as that of any request; what came
 * behind it (`head`) goes back into the connection.
 * @throws E_CONTROL_REQUEST
 */
export async function readUpgradeBody(
  request: IncomingMessage,
  connection: Duplex,
  head: Buffer,
): Promise<unknown> {
  if (head.length > 0) connection.unshift(head);
  const text = await readText(request);
  if (text === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch (error) {
    throw new KitError("E_CONTROL_REQUEST", "the body is not JSON", { cause: error });
  }
}

/** The request is left as it is, whatever is wrong with it: to destroy it would take the connection, and the answer. */
async function readText(request: IncomingMessage): Promise<string> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, BODY_TIMEOUT_MS, undefined);
  try {
    const text = await Promise.race([collect(request), late]);
    if (text !== undefined) return text;
  } catch (error) {
    throw new KitError("E_CONTROL_REQUEST", "the body did not come whole", { cause: error });
  } finally {
    clearTimeout(timer);
  }
  throw new KitError("E_CONTROL_REQUEST", `the body is late, or has more than ${MAX_BODY_BYTES} bytes`);
}

/** Undefined if it is too large. */
async function collect(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    if (Buffer.isBuffer(part)) parts.push(part);
    sizeBytes += parts.at(-1)?.length ?? 0;
    if (sizeBytes > MAX_BODY_BYTES) return undefined;
  }
  return Buffer.concat(parts).toString("utf8");
}

export function acceptUpgrade(connection: Duplex): void {
  connection.write(
    `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${STREAM_PROTOCOL}\r\n\r\n`,
  );
}

export function refuseUpgrade(connection: Duplex, error: KitError): void {
  const status = httpStatusOf(error);
  const body = JSON.stringify(errorToJson(error));
  const head = [
    `HTTP/1.1 ${status} ${REASONS[status] ?? "Error"}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  if (!connection.writable) return void connection.destroy();
  // What the client sent meanwhile must not turn the answer into a reset.
  connection.resume().end(`${head.join("\r\n")}\r\n\r\n${body}`, () => connection.destroy());
}
