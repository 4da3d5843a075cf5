/** Requests to the control API of an enclave (wire/control.ts) over vsock. The enclave is not trusted: every answer is bounded. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

import { KitError } from "../../core/errors.ts";
import { loadHttp } from "../../core/http-module.ts";

const MAX_STATUS_BYTES = 1024 * 1024;
/** A log line of 16 KiB can take six bytes a character as JSON. */
const MAX_LINE_BYTES = 256 * 1024;

export type Dial = (signal: AbortSignal) => Promise<Duplex>;

interface ControlRequest {
  readonly path: string;
  readonly dial: Dial;
  readonly signal: AbortSignal;
  /** The enclave has begun to answer. */
  readonly onOpen?: () => void;
}

/** A JSON answer. @throws E_HOST_CONTROL, E_BACKEND_CONNECT */
export async function getJson(request: ControlRequest): Promise<unknown> {
  const response = await send(request);
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of chunksOf(response)) {
    sizeBytes += part.length;
    if (sizeBytes > MAX_STATUS_BYTES)
      throw refusal(`${request.path} gave more than ${MAX_STATUS_BYTES} bytes`);
    parts.push(part);
  }
  return parseJson(Buffer.concat(parts).toString("utf8"), request.path);
}

/** Batches of the lines of an endless answer, parsed, as they arrive. */
export async function* streamLines(request: ControlRequest): AsyncGenerator<readonly unknown[]> {
  const response = await send(request);
  request.onOpen?.();
  let rest = Buffer.alloc(0);
  for await (const part of chunksOf(response)) {
    const bytes = rest.length === 0 ? part : Buffer.concat([rest, part]);
    const end = bytes.lastIndexOf(0x0a);
    rest = Buffer.from(bytes.subarray(end + 1));
    if (rest.length > MAX_LINE_BYTES)
      throw refusal(`${request.path} gave a line of more than ${MAX_LINE_BYTES} bytes`);
    if (end < 0) continue;
    const lines = bytes.toString("utf8", 0, end).split("\n");
    yield lines.map((line) => parseJson(line, request.path));
  }
}

async function* chunksOf(response: IncomingMessage): AsyncGenerator<Buffer> {
  for await (const part of response) yield Buffer.isBuffer(part) ? part : Buffer.from(String(part));
}

async function send({ path, dial, signal }: ControlRequest): Promise<IncomingMessage> {
  const socket = await dial(signal);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = loadHttp().request({
    path,
    host: "enclave",
    signal,
    createConnection: () => socket,
  });
  request.once("response", resolve).once("error", reject).end();
  const response = await promise;
  if (response.statusCode === 200) return response;
  response.destroy();
  throw refusal(`${path} gave status ${response.statusCode ?? 0}`);
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw refusal(`${path} gave what is no JSON`, error);
  }
}

function refusal(message: string, cause?: unknown): KitError {
  return new KitError("E_HOST_CONTROL", `control API: ${message}`, { cause });
}
