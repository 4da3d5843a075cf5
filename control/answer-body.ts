/** Bodies of answers of the control API: bounded, strictly decoded, and refusals turned back into errors. */
import type { IncomingMessage } from "node:http";

import { KitError, toKitError } from "../core/errors.ts";
import { toPrintable } from "../core/printable.ts";
import { ErrorJsonSchema } from "../wire/control-schemas.ts";
import { explainFailure } from "./control-request.ts";

/** What a schema of wire/control-schemas.ts does. */
export interface AnswerSchema<T> {
  safeParse(
    value: unknown,
  ):
    | { readonly success: true; readonly data: T }
    | { readonly success: false; readonly error: { readonly issues: readonly SchemaIssue[] } };
}

interface SchemaIssue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** Of one JSON answer. */
const MAX_JSON_BYTES = 4 * 1024 * 1024;
/** A log line of 16 KiB can take six bytes a character as JSON. */
const MAX_LINE_BYTES = 256 * 1024;
const MAX_REFUSAL_BYTES = 64 * 1024;
const MAX_MESSAGE = 4096;

/** @throws E_HOST_CONTROL for anything but JSON of the schema, E_CONTROL_LOST */
export async function readJson<T>(
  response: IncomingMessage,
  what: string,
  schema: AnswerSchema<T>,
): Promise<T> {
  const text = await readText(response, what, MAX_JSON_BYTES);
  return decodeAnswer(parseJson(text, what), what, schema);
}

/**
 * Batches of decoded lines as they arrive.
 * @param idleTimeoutMs longest wait for the next bytes; none for streams that are followed.
 * @throws E_HOST_CONTROL, E_CONTROL_LOST, E_DEADLINE
 */
export async function* readLines<T>(
  response: IncomingMessage,
  what: string,
  { schema, idleTimeoutMs }: { readonly schema: AnswerSchema<T>; readonly idleTimeoutMs?: number },
): AsyncGenerator<readonly T[]> {
  let rest = Buffer.alloc(0);
  for await (const part of chunksOf(response, what, idleTimeoutMs)) {
    const bytes = rest.length === 0 ? part : Buffer.concat([rest, part]);
    const end = bytes.lastIndexOf(0x0a);
    rest = Buffer.from(bytes.subarray(end + 1));
    if (rest.length > MAX_LINE_BYTES) throw refusal(what, `a line of more than ${MAX_LINE_BYTES} bytes`);
    if (end < 0) continue;
    const lines = bytes.toString("utf8", 0, end).split("\n");
    yield lines.map((line) => decodeAnswer(parseJson(line, what), what, schema));
  }
  if (rest.length > 0) throw refusal(what, "a line without its end");
}

/** The refusal that an answer with another status than the one hoped for tells; the answer is closed. */
export async function readRefusal(response: IncomingMessage, what: string): Promise<Error> {
  const status = response.statusCode ?? 0;
  try {
    const text = await readText(response, what, MAX_REFUSAL_BYTES);
    const { code, message, hint, details } = decodeAnswer(parseJson(text, what), what, ErrorJsonSchema);
    return new KitError(code, toPrintable(message).slice(0, MAX_MESSAGE), {
      hint: toPrintable(hint).slice(0, MAX_MESSAGE),
      details,
    });
  } catch (error) {
    const isOurs = error instanceof KitError && error.code === "E_HOST_CONTROL";
    return isOurs ? refusal(what, `HTTP status ${status}`, error) : toKitError(error);
  } finally {
    response.destroy();
  }
}

async function readText(response: IncomingMessage, what: string, maxBytes: number): Promise<string> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of chunksOf(response, what)) {
    sizeBytes += part.length;
    if (sizeBytes > maxBytes) throw refusal(what, `more than ${maxBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

async function* chunksOf(
  response: IncomingMessage,
  what: string,
  idleTimeoutMs?: number,
): AsyncGenerator<Buffer> {
  const idle = new KitError("E_DEADLINE", `${what}: the enclave stopped in the middle of its answer`);
  const timer =
    idleTimeoutMs === undefined ? undefined : setTimeout(() => response.destroy(idle), idleTimeoutMs);
  try {
    for await (const part of response) {
      timer?.refresh();
      yield Buffer.isBuffer(part) ? part : Buffer.from(String(part));
      timer?.refresh();
    }
  } catch (error) {
    throw explainFailure(what, error);
  } finally {
    clearTimeout(timer);
  }
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw refusal(what, "what is no JSON", error);
  }
}

function decodeAnswer<T>(value: unknown, what: string, schema: AnswerSchema<T>): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const place =
    issue === undefined
      ? ""
      : `${issue.path.map(String).join(".").slice(0, 100)}: ${issue.message.slice(0, 200)}`;
  throw refusal(what, `an answer that is not as expected (${toPrintable(place)})`, parsed.error);
}

export function refusal(what: string, gave: string, cause?: unknown): KitError {
  return new KitError("E_HOST_CONTROL", `${what}: the enclave gave ${gave}`, { cause });
}
